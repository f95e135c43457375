"""Conformance of storage layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import ClassVar

import pytest

from deltaglider_core.errors import ServiceUnavailable
from deltaglider_core.interfaces.storage import StorageBackend, StorageLayer
from deltaglider_core.testing import MemoryBackend

from .storage import StorageConformance

Wrap = Callable[[StorageBackend], StorageBackend]


def interface_methods() -> list[str]:
    """Names of the methods and properties that a backend has."""
    return sorted(
        name
        for name, member in vars(StorageBackend).items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    )


class LayerConformance(StorageConformance):
    """What every ``StorageLayer`` must do: all that a backend does, around another one.

    Inherit, and override the fixture ``wrap``::

        class TestMyLayer(LayerConformance):
            @pytest.fixture
            def wrap(self):
                return MyLayer
    """

    stores_in_memory: ClassVar[bool] = True

    @pytest.fixture
    def wrap(self) -> Wrap:
        """What puts the layer around a backend."""
        raise NotImplementedError("override the fixture `wrap`")

    @pytest.fixture
    def inner(self) -> MemoryBackend:
        """The backend below the layer."""
        return MemoryBackend()

    @pytest.fixture
    def backend(self, wrap: Wrap, inner: MemoryBackend) -> StorageBackend:
        """The layer."""
        return wrap(inner)

    def test_is_a_layer(self, backend: StorageBackend, inner: MemoryBackend) -> None:
        assert isinstance(backend, StorageLayer)
        assert backend.inner is inner

    @pytest.mark.parametrize("name", interface_methods())
    def test_forwards(self, backend: StorageBackend, name: str) -> None:
        """No method falls through to the slow default of ``StorageBackend``."""
        cls = type(backend)
        assert inspect.getattr_static(cls, name) is not vars(StorageBackend)[name], (
            f"{cls.__name__}.{name} is the default of StorageBackend: it must be forwarded"
        )

    async def test_error_of_inner(
        self, backend: StorageBackend, inner: MemoryBackend, bucket: str
    ) -> None:
        """What the backend cannot tell is an error above the layer too, never absence."""
        error = ServiceUnavailable("the backend is away")
        for method in ("head_object", "get_object", "list_objects", "delete_object"):
            inner.fail(method, error, times=1000)
        with pytest.raises(ServiceUnavailable):
            await backend.head_object(bucket, "k")
        with pytest.raises(ServiceUnavailable):
            await backend.get_object(bucket, "k")
        with pytest.raises(ServiceUnavailable):
            await backend.list_objects(bucket)
        with pytest.raises(ServiceUnavailable):
            await backend.delete_object(bucket, "k")
