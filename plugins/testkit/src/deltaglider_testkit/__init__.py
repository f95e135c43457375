"""Conformance tests that authors of DeltaGlider plugins inherit."""

from . import _rewrite as _rewrite
from .admission import AdmissionConformance
from .auth import (
    AuthenticatorConformance,
    AuthorizerConformance,
    CredentialStoreConformance,
)
from .codec import CodecConformance
from .events import EventSinkConformance
from .layer import LayerConformance
from .plugin import PluginConformance
from .routing import RouterConformance
from .storage import StorageConformance

__all__ = [
    "AdmissionConformance",
    "AuthenticatorConformance",
    "AuthorizerConformance",
    "CodecConformance",
    "CredentialStoreConformance",
    "EventSinkConformance",
    "LayerConformance",
    "PluginConformance",
    "RouterConformance",
    "StorageConformance",
]
