"""Certificates for tests: an authority, and what it issues for servers and clients."""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Authority:
    """An authority whose certificate is in `folder/ca.pem`."""

    folder: Path

    def __post_init__(self) -> None:
        """Make its key and certificate."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("Test authority")
        builder = _builder(self._name, self._name, self._key.public_key())
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        made = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    @property
    def file(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.pem"

    def issue(self, file: str, common_name: str, *names: x509.GeneralName, password: bytes | None = None) -> Path:
        """Write `file`.pem and `file`.key, readable by their owner; return the path without its ending."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name), self._name, key.public_key())
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = builder.add_extension(identifier, critical=False).sign(self._key, hashes.SHA256())
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        raw = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        path = self.folder / file
        path.with_suffix(".key").touch(0o600)
        path.with_suffix(".key").write_bytes(raw)
        path.with_suffix(".pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return path

    def revoke(self, path: Path) -> None:
        """Append a list to `ca.pem` in which the certificate of `path` is revoked."""
        card = x509.load_pem_x509_certificate(path.with_suffix(".pem").read_bytes())
        now = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
        revoked = x509.RevokedCertificateBuilder(card.serial_number, now).build()
        builder = x509.CertificateRevocationListBuilder(self._name, now, now + dt.timedelta(days=1), [], [revoked])
        made = builder.sign(self._key, hashes.SHA256())
        self.file.write_bytes(self.file.read_bytes() + made.public_bytes(serialization.Encoding.PEM))

    def server(self, file: str = "server") -> dict[str, object]:
        """Issue a certificate for localhost; return the keys of a listener."""
        path = self.issue(file, "localhost", x509.DNSName("localhost"))
        return {"ssl": True, "certfile": str(path.with_suffix(".pem")), "keyfile": str(path.with_suffix(".key"))}


def trusting(authority: Authority, client: Path | None = None) -> ssl.SSLContext:
    """Return a client's context that trusts `authority` and, if given, shows the certificate `client`."""
    context = ssl.create_default_context(cafile=authority.file)
    if client is not None:
        context.load_cert_chain(client.with_suffix(".pem"), client.with_suffix(".key"))
    return context


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else [])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    begin, end = now - dt.timedelta(minutes=5), now + dt.timedelta(days=1)
    return x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), begin, end)
