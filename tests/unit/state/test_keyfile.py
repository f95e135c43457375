"""The file with the key of the embedded database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deltaglider_core.errors import ConfigurationError
from deltaglider_core.state.keyfile import KEY_BYTES, create_key, read_key


def write(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def test_a_key_is_random_private_and_read_back(tmp_path: Path) -> None:
    previous = os.umask(0o277)
    try:
        first = create_key(tmp_path / "a.key")
    finally:
        os.umask(previous)
    second = create_key(tmp_path / "b.key")
    assert len(first) == len(second) == KEY_BYTES
    assert first != second
    assert (tmp_path / "a.key").stat().st_mode & 0o7777 == 0o600
    assert (tmp_path / "a.key").read_text() == first.hex() + "\n"
    assert read_key(tmp_path / "a.key") == first


def test_a_missing_key_is_no_error(tmp_path: Path) -> None:
    assert read_key(tmp_path / "missing.key") is None


@pytest.mark.parametrize("text", ["AB" * 32, "\n" + "0f" * 32 + "\r\n", "ab" * 32])
def test_white_space_around_a_key_and_its_case_mean_nothing(tmp_path: Path, text: str) -> None:
    assert read_key(write(tmp_path / "key", text)) == bytes.fromhex(text.strip())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ab" * 31,
        "ab" * 33,
        "zz" * 32,
        "ab" * 16 + "\n" + "ab" * 16,
        b"\xff" * 64,
        "\u0660" * 64,
    ],
)
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, text: str | bytes) -> None:
    path = write(tmp_path / "key", text)
    with pytest.raises(ConfigurationError, match="is damaged: it must hold 64 hex digits") as error:
        read_key(path)
    assert "abab" not in str(error.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601, 0o644])
def test_a_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "key", "ab" * 32, mode)
    with pytest.raises(ConfigurationError, match=f"run: chmod 600 {path}"):
        read_key(path)


def test_what_is_no_file_is_no_key(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigurationError, match="is not a file"):
            read_key(path)


def test_an_existing_file_is_never_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "key", "ab" * 32)
    with pytest.raises(ConfigurationError, match="cannot be created: File exists"):
        create_key(path)
    assert path.read_text() == "ab" * 32
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="cannot be created"):
        create_key(link)
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_that_cannot_be_stored_is_not_left_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigurationError, match="cannot be written: No space left on device"):
        create_key(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []
