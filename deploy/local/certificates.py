"""The certificates of a stack on this machine: an authority of its own, and one certificate for all its services."""

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.local.ports import LOOPBACK

DIRECTORY: Final = "tls"
AUTHORITY: Final = "ca.crt"
CERTIFICATE: Final = "service.crt"
KEY: Final = "service.key"

_AUTHORITY_LASTS: Final = timedelta(days=3_650)
_CERTIFICATE_LASTS: Final = timedelta(days=365)
_RENEWED_BEFORE: Final = timedelta(days=90)
_SLOW_CLOCKS: Final = timedelta(days=1)
_NAMES: Final = ("localhost",)
_ADDRESSES: Final = (LOOPBACK, "::1")


class StackCertificates:
    """The files in a stack's home. The authority is for this stack alone, so its key is nobody's to keep: when the
    certificate is about to end both are made anew, and clients read the authority's certificate each time.
    """

    def __init__(self, home: Path) -> None:
        self._directory = home / DIRECTORY

    @property
    def authority(self) -> Path:
        """What clients believe."""
        return self._directory / AUTHORITY

    @property
    def certificate(self) -> Path:
        """What services show."""
        return self._directory / CERTIFICATE

    @property
    def key(self) -> Path:
        """Of the certificate; its owner alone may read it."""
        return self._directory / KEY

    def environment(self) -> dict[str, str]:
        """What services are told."""
        return {
            "LAUREL_TLS_CERTIFICATE_FILE": str(self.certificate),
            "LAUREL_TLS_KEY_FILE": str(self.key),
            "LAUREL_TLS_CA_FILE": str(self.authority),
            # One target may be several addresses, which is no name that a certificate could be for.
            "LAUREL_TLS_SERVER_NAME": _NAMES[0],
        }

    def keep(self, now: datetime) -> None:
        """Make what is missing or ends soon. For a stack of which no service runs."""
        if not self._lasts(now):
            self._make(now)

    def _lasts(self, now: datetime) -> bool:
        if not (self.authority.exists() and self.key.exists()):
            return False
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        except (FileNotFoundError, ValueError):
            return False
        return certificate.not_valid_after_utc - now > _RENEWED_BEFORE

    def _make(self, now: datetime) -> None:
        authority_key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Laurel on this machine")])
        authority = (
            _builder(name, name, authority_key.public_key(), now, _AUTHORITY_LASTS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(authority_key, hashes.SHA256())
        )
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Laurel")])
        names = [
            *map(x509.DNSName, _NAMES),
            *(x509.IPAddress(ipaddress.ip_address(each)) for each in _ADDRESSES),
        ]
        certificate = (
            _builder(subject, name, key.public_key(), now, _CERTIFICATE_LASTS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(authority_key, hashes.SHA256())
        )
        self._directory.mkdir(exist_ok=True)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write_private(self.key, private)
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))


def channel_to(address: str, authority: Path | None, options: Sequence[tuple[str, int]] = ()) -> grpc.Channel:
    """A channel to a service of a stack: `authority` is the one that it believes, None where nothing is encrypted."""
    if authority is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority.read_bytes()), options=options)


def now() -> datetime:
    """By the clock that certificates are checked by."""
    return datetime.now(UTC)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    begins: datetime,
    lasts: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - _SLOW_CLOCKS)
        .not_valid_after(begins + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
