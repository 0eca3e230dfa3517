"""Certificates of this process and authorities of others, from files that may change while it runs (RULES 9.1)."""

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc
from msgspec import Struct

from shared.config import ConfigurationError, Settings

_LOGGER: Final = logging.getLogger(__name__)
_LOOK_AGAIN_SECONDS: Final = 1.0


class Material(Struct, frozen=True):
    """What the files hold: PEM texts. Where a file is not configured: None."""

    certificate: bytes | None
    key: bytes | None
    authorities: bytes | None


_Stamp = tuple[tuple[int, int] | None, ...]
"""Time of change and size of each file."""


class Certificates:
    """The files' content, looked at again at most once a second.

    What cannot be used, such as a certificate whose key has not been written yet, is passed over: what was there before
    stays, and the log says so. Raises `ConfigurationError` where there is nothing before.
    """

    def __init__(
        self,
        certificate: Path | None,
        key: Path | None,
        authorities: Path | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = (certificate, key, authorities)
        self._monotonic = monotonic
        self._stamp = self._look()
        try:
            self._material = _read(*self._files)
        except OSError as error:
            raise ConfigurationError([f"TLS: {error}"]) from error
        self._looked = monotonic()

    def newest(self) -> Material:
        """The content as it is now; the same object as before where nothing has changed."""
        now = self._monotonic()
        if now - self._looked < _LOOK_AGAIN_SECONDS:
            return self._material
        self._looked = now
        stamp = self._look()
        if stamp != self._stamp:
            try:
                self._material = _read(*self._files)
            except OSError as error:
                _LOGGER.warning("certificates cannot be used, those before stay", extra={"error": str(error)})
            else:
                # Kept for a pair alone that fits: half of a change is looked at again.
                self._stamp = stamp
                _LOGGER.info("certificates were read again")
        return self._material

    def _look(self) -> _Stamp:
        return tuple(_stamp(file) for file in self._files)


def certificates(settings: Settings) -> Certificates | None:
    """The files of these settings; None where none is set. Raises `ConfigurationError`."""
    files = (settings.tls_certificate_file, settings.tls_key_file, settings.tls_ca_file)
    return Certificates(*files) if any(files) else None


def server_credentials(files: Certificates, *, require_client: bool) -> grpc.ServerCredentials:
    """Of a port that shows the newest certificate to whoever connects."""
    shown = files.newest()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        newest = files.newest()
        if newest is shown:
            return None
        shown = newest
        return _configuration(newest)

    # What is typed as always there may be None, says its documentation: nothing has changed.
    fetch: Any = changed
    return grpc.dynamic_ssl_server_credentials(_configuration(shown), fetch, require_client)


def channel_credentials(material: Material) -> grpc.ChannelCredentials:
    """Of a connection to another service."""
    return grpc.ssl_channel_credentials(material.authorities, material.key, material.certificate)


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    assert material.key is not None  # a port without is none of this module's
    assert material.certificate is not None
    pair = (material.key, material.certificate)
    return grpc.ssl_server_certificate_configuration([pair], material.authorities)


def _read(certificate: Path | None, key: Path | None, authorities: Path | None) -> Material:
    """Raises `OSError` (`ssl.SSLError` is one) for what is not there, is no PEM, or does not fit together."""
    if certificate is not None and key is not None:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, _no_password)
    if authorities is not None:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(authorities)
    return Material(
        *(None if file is None else file.read_bytes() for file in (certificate, key, authorities))
    )


def _no_password() -> str:
    """Instead of asking at a terminal: a key with a password is refused."""
    return ""


def _stamp(file: Path | None) -> tuple[int, int] | None:
    try:
        found = None if file is None else file.stat()
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size)
