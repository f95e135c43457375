"""Which keys are candidates, what the settings say, and opening the layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltaglider_core.delta.candidates import DEFAULT_SUFFIXES, has_suffix
from deltaglider_core.delta.layer import DeltaLayer, open_delta_layer
from deltaglider_core.delta.metrics import DeltaMetrics
from deltaglider_core.delta.policy import BucketPolicy, DeltaPolicy
from deltaglider_core.errors import ConfigurationError
from deltaglider_core.interfaces.storage import StorageBackend, StorageLayer
from deltaglider_core.settings import (
    AdvancedSettings,
    BucketSettings,
    Settings,
    StorageSettings,
)
from deltaglider_core.testing import MemoryBackend, body, metadata, read, services_for_tests


def test_suffixes_are_normal() -> None:
    assert list(DEFAULT_SUFFIXES) == sorted(set(DEFAULT_SUFFIXES))
    for suffix in DEFAULT_SUFFIXES:
        assert suffix == suffix.lower()
        assert suffix.startswith(".")
        assert len(suffix) > 1


@pytest.mark.parametrize(
    "key",
    [
        *("a.zip", "A.ZIP", "dir/b.Jar", "x.tar", "m.safetensors", "d.sql", "i.qcow2", "a.b.whl"),
        *("x.docx", "x.iso", "x.gguf", "x.deb", "x.wav", "x.psd", "x.bin", "x.pdb"),
    ],
)
def test_candidates(key: str) -> None:
    assert has_suffix(key, DEFAULT_SUFFIXES)


@pytest.mark.parametrize(
    "key",
    [
        *("a.tar.gz", "a.tgz", "a.zip.xz", "a.7z", "a.zst", "a.jpg", "a.png", "a.mp4", "a.mp3"),
        *("zip", "a", "", "a.zip/b", "a.zip/", "azip", "a.webp", "a.html"),
    ],
)
def test_no_candidates(key: str) -> None:
    assert not has_suffix(key, DEFAULT_SUFFIXES)


def test_our_own_keys_are_never_candidates() -> None:
    assert not DeltaPolicy().is_candidate("b", ".deltaglider/x.zip")
    assert DeltaPolicy().is_candidate("b", ".deltaglider.zip")


def settings(**advanced: object) -> Settings:
    return Settings(
        storage=StorageSettings(
            buckets={
                "off": BucketSettings(compression=False),
                "own": BucketSettings(max_delta_ratio=0.25),
            }
        ),
        advanced=AdvancedSettings.model_validate(advanced),
    )


def test_settings_become_the_policy() -> None:
    policy = DeltaPolicy.from_settings(
        settings(max_delta_ratio=0.5, delta_suffixes=(".x",), cache_size_mb=3, codec="c")
    )
    assert policy == DeltaPolicy(
        max_ratio=0.5,
        suffixes=(".x",),
        codec="c",
        cache_bytes=3 * 1024 * 1024,
        buckets={
            "off": BucketPolicy(compression=False),
            "own": BucketPolicy(max_ratio=0.25),
        },
    )
    assert [policy.ratio(name) for name in ("off", "own", "other")] == [0.0, 0.25, 0.5]
    assert DeltaPolicy.from_settings(settings()).suffixes == DEFAULT_SUFFIXES


def test_objects_of_earlier_settings_are_looked_for() -> None:
    policy = DeltaPolicy(suffixes=(".x",))
    assert policy.may_be_delta("a.x")
    assert policy.may_be_delta("a.zip")
    assert not policy.may_be_delta("a.png")


async def test_a_codec_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="deltaglider-codec-nothing"):
        async with open_delta_layer(settings(codec="nothing"), services_for_tests(tmp_path)):
            pass


async def test_two_layers_share_counters_and_directory(tmp_path: Path) -> None:
    services = services_for_tests(tmp_path)
    async with (
        open_delta_layer(settings(), services) as first,
        open_delta_layer(settings(), services) as second,
    ):
        for wrap in (first, second):
            backend = MemoryBackend()
            await backend.create_bucket("b")
            layer = wrap(backend)
            assert isinstance(layer, DeltaLayer)
            await layer.put_object("b", "k.zip", body(b"x"), size=1, metadata=metadata())
            assert await read(await layer.get_object("b", "k.zip")) == b"x"
    value = services.metrics.get_sample_value(
        "deltaglider_delta_decisions_total", {"decision": "passthrough"}
    )
    assert value == 2
    assert DeltaMetrics.of(services.metrics) is DeltaMetrics.of(services.metrics)


def test_metrics_have_their_names(tmp_path: Path) -> None:
    services = services_for_tests(tmp_path)
    metrics = DeltaMetrics.of(services.metrics)
    metrics.decisions.labels("delta")
    names = {sample.name for family in services.metrics.collect() for sample in family.samples}
    assert {
        "deltaglider_delta_compression_ratio_count",
        "deltaglider_delta_bytes_saved_total",
        "deltaglider_delta_encode_duration_seconds_count",
        "deltaglider_delta_decode_duration_seconds_count",
        "deltaglider_delta_decisions_total",
        "deltaglider_cache_hits_total",
        "deltaglider_cache_misses_total",
        "deltaglider_cache_size_bytes",
        "deltaglider_cache_max_bytes",
    } <= names


def test_nothing_falls_through_to_a_slow_default() -> None:
    for name in vars(StorageBackend):
        if not name.startswith("_"):
            assert getattr(DeltaLayer, name) is not getattr(StorageBackend, name)
    assert issubclass(DeltaLayer, StorageLayer)


async def test_what_the_layer_does_not_change_reaches_the_backend(tmp_path: Path) -> None:
    services = services_for_tests(tmp_path)
    backend = MemoryBackend()
    async with open_delta_layer(settings(), services) as wrap:
        layer = wrap(backend)
        await layer.create_bucket("b")
        assert [info.name for info in await layer.list_buckets()] == ["b"]
        assert (await layer.head_bucket("b")).name == "b"
        await layer.probe()
        assert layer.capabilities == backend.capabilities
        upload = await layer.create_multipart_upload("b", "k", metadata=metadata())
        assert (await layer.list_multipart_uploads("b")).uploads[0].upload_id == upload
        assert (await layer.list_parts("b", "k", upload, max_parts=10)).parts == ()
        await layer.abort_multipart_upload("b", "k", upload)
