"""The certificates that a stack on this machine makes for itself."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from deploy.local.certificates import StackCertificates

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def made(home: Path, at: datetime = NOW) -> StackCertificates:
    certificates = StackCertificates(home)
    certificates.keep(at)
    return certificates


def test_a_certificate_is_for_this_machine_and_of_the_authority_beside_it(tmp_path: Path) -> None:
    certificates = made(tmp_path)
    certificate = x509.load_pem_x509_certificate(certificates.certificate.read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(certificates.authority.read_bytes()))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert ipaddress.ip_address("127.0.0.1") in names.get_values_for_type(x509.IPAddress)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificates.certificate, certificates.key)


def test_nobody_else_may_read_the_key_and_that_of_the_authority_is_kept_nowhere(tmp_path: Path) -> None:
    certificates = made(tmp_path)
    assert certificates.key.stat().st_mode & 0o077 == 0
    assert [each.name for each in certificates.key.parent.iterdir() if b"PRIVATE" in each.read_bytes()] == [
        certificates.key.name
    ]


def test_certificates_stay_until_they_end_soon(tmp_path: Path) -> None:
    first = made(tmp_path).authority.read_bytes()
    assert made(tmp_path, NOW + timedelta(days=200)).authority.read_bytes() == first
    later = made(tmp_path, NOW + timedelta(days=280))
    assert later.authority.read_bytes() != first
    certificate = x509.load_pem_x509_certificate(later.certificate.read_bytes())
    assert certificate.not_valid_after_utc == NOW + timedelta(days=280 + 365)


def test_what_is_damaged_or_gone_is_made_anew(tmp_path: Path) -> None:
    certificates = made(tmp_path)
    certificates.certificate.write_text("nothing of the kind")
    made(tmp_path)
    x509.load_pem_x509_certificate(certificates.certificate.read_bytes())
    certificates.key.unlink()
    made(tmp_path)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificates.certificate, certificates.key)
