"""TLS of a listener: amqtt's keys, the names in a client's certificate, and new certificates without a restart."""

from __future__ import annotations

import logging
import ssl
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesimqtt.domain.errors import MesimqttError

if TYPE_CHECKING:
    import asyncio

    from amqtt.contexts import ListenerConfig

    from mesimqtt.settings import ListenerOptions

_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_CRL = b"-----BEGIN X509 CRL-----"  # a list of revoked certificates, appended to the authority's
_CERTIFICATE = b"CERTIFICATE-----"
_MISMATCHES = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"})
_SAN_KINDS = ("DNS", "email", "URI")
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL"})

logger = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int] | None, ...]


class Tls:
    """The TLS context of a listener. `context` is replaced as a whole when the files on disk have changed."""

    def __init__(self, name: str, config: ListenerConfig, options: ListenerOptions) -> None:
        """Read the files. Raises MesimqttError, whose text says what to do."""
        self._name = name
        self._config = config
        self._options = options
        if config.certfile is None or config.keyfile is None:
            raise MesimqttError(f"listener {name!r}: TLS needs certfile and keyfile")
        self._key = Path(config.keyfile)
        self._has_authority = any((config.cafile, config.capath, config.cadata))
        if options.client_certificate == "required" and not self._has_authority:
            raise MesimqttError(
                f"listener {name!r}: client_certificate: required needs a cafile that has issued the certificates"
            )
        if options.certificate_user and not self._has_authority:
            raise MesimqttError(
                f"listener {name!r}: certificate_user: {options.certificate_user} needs a cafile that has issued the "
                "certificates; without one no client is asked for its certificate"
            )
        if options.certificate_user and options.client_certificate == "none":
            raise MesimqttError(
                f"listener {name!r}: certificate_user: {options.certificate_user} needs the client's certificate, for "
                "which client_certificate: none does not ask; write optional or required"
            )
        self._stamp = self._files_stamp()
        try:
            self.context = self._load()
        except (OSError, ValueError) as error:
            raise MesimqttError(f"listener {name!r}: TLS: {self._cause(error)}") from None
        self._warn_of_readers()

    def reload(self, *, is_forced: bool = False) -> bool:
        """Take the files if they have changed; who is connected stays. A broken one is logged, the old one stays."""
        stamp = self._files_stamp()
        if stamp == self._stamp and not is_forced:
            return False
        self._stamp = stamp
        try:
            self.context = self._load()
        except (OSError, ValueError) as error:
            logger.error(  # noqa: TRY400 - an operator needs the sentence, not the trace
                "listener %s: the new certificate cannot be used, the old one stays: %s", self._name, self._cause(error)
            )
            return False
        self._warn_of_readers()
        logger.info("listener %s: certificate read again", self._name)
        return True

    def _load(self) -> ssl.SSLContext:
        config = self._config
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        if self._has_authority:
            context.load_verify_locations(config.cafile, config.capath, str(config.cadata) if config.cadata else None)
            context.verify_mode = _VERIFY[self._options.client_certificate]
            if config.cafile is not None and _CRL in Path(config.cafile).read_bytes():
                context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        context.load_cert_chain(str(config.certfile), str(config.keyfile), password=_no_password)
        return context

    def _cause(self, error: Exception) -> str:
        """Return which file cannot be used, and why."""
        config = self._config
        certificate, key = str(config.certfile), str(config.keyfile)
        for name, path in (("certfile", certificate), ("keyfile", key), ("cafile", config.cafile)):
            if path is None:
                continue
            try:
                text = Path(path).read_bytes()
            except OSError as unread:
                return f"cannot read {name} {path}: {unread.strerror}"
            if name != "keyfile" and _CERTIFICATE not in text:
                return f"{name} {path} holds no certificate (PEM)"
            if name == "keyfile" and b"PRIVATE KEY-----" not in text:
                return f"{name} {path} holds no private key (PEM)"
        if isinstance(error, ssl.SSLError) and error.reason in _MISMATCHES:
            return f"keyfile {key} is not the key of certfile {certificate}"
        return f"{_plain(error)}; check certfile {certificate} and keyfile {key}"

    def _files_stamp(self) -> Stamp:
        return tuple(
            _stamp(Path(path)) if path is not None else None
            for path in (self._config.certfile, self._config.keyfile, self._config.cafile)
        )

    def _warn_of_readers(self) -> None:
        if self._key.stat().st_mode & stat.S_IRWXO:
            logger.warning(
                "listener %s: the private key %s can be read by every user of this machine; chmod o= %s",
                self._name, self._key, self._key,
            )  # fmt: skip


def certificate_user(transport: asyncio.BaseTransport, names: str) -> str | None:
    """Return the one name of the client's verified certificate that `names` (cn, san) asks for; None: there is none.

    A certificate of several names belongs to no one of them.
    """
    certificate: dict[str, Any] | None = transport.get_extra_info("peercert")
    if not names or not certificate:
        return None
    if names == "cn":
        found = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    else:
        found = [value for kind, value in certificate.get("subjectAltName", ()) if kind in _SAN_KINDS]
    if len(found) != 1:
        logger.warning("a client's certificate has %d names (%s), one is needed; it is nobody", len(found), names)
        return None
    name: str = found[0]
    return name


def why(error: ssl.SSLError) -> str:
    """Return why a handshake failed, and where it can be told, what to look at."""
    reason = getattr(error, "verify_message", "") or _plain(error)
    if error.reason in _NOT_TLS:
        return f"the client does not speak TLS ({reason})"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate: {reason}"
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "the client has shown no certificate"
    return f"the client refuses: {reason}" if "ALERT" in (error.reason or "") else reason


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _plain(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error)


def _no_password() -> str:
    raise ValueError("the private key is encrypted, and nobody is there to type its password; store it decrypted")


def certificate_ends_at(path: Path) -> float:
    """Return when the first certificate of a PEM file ends, in seconds since 1970.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no certificate.

    """
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415 - only `doctor` asks

    return load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()
