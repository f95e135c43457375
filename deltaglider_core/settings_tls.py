"""Settings of TLS."""

from __future__ import annotations

from pydantic import model_validator

from .settings_base import Section, UsablePath, setting


class TlsSettings(Section):
    """Whether clients connect by https, and the certificate that they are shown."""

    enabled: bool = setting(
        False,
        description="Whether `listen_addr` speaks https, and nothing else. Without `cert_path` "
        "and `key_path` the service makes itself a certificate, `deltaglider_tls.crt` beside its "
        "database.",
        apply="restart",
        env="DGP_TLS_ENABLED",
    )
    cert_path: UsablePath | None = setting(
        None,
        description="PEM file of the certificate, followed by those between it and the root.",
        apply="hot",
        env="DGP_TLS_CERT",
    )
    key_path: UsablePath | None = setting(
        None,
        description="PEM file of the certificate's private key, without a password.",
        apply="hot",
        env="DGP_TLS_KEY",
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> TlsSettings:
        if (self.cert_path is None) != (self.key_path is None):
            missing = "cert_path" if self.cert_path is None else "key_path"
            raise ValueError(
                f"{missing} is missing: a certificate and its private key are given together, or "
                "neither for a self-signed one"
            )
        return self


__all__ = ["TlsSettings"]
