"""Who asks a server, and which server is believed: a key, a client certificate, an authority."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ferryman.core.errors import ConfigError

_TURNS = 10
_ANOTHER_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")  # OpenSSL's words
_EXPIRED, _NOT_YET = 10, 9  # OpenSSL's numbers: X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID


@dataclass(frozen=True, slots=True)
class Access:
    """Say how to prove who asks, and whom to believe.

    `key` is an API key or another bearer token. The files are PEM: `ca_file` holds the authorities that a server's
    certificate may come from (None: those of this system), `cert_file` the client's own certificate, and
    `cert_key_file` its key (None: it lies beside the certificate).
    """

    key: str = field(default="", repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    cert_key_file: Path | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Give what goes with every request."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    @property
    def has_files(self) -> bool:
        """Tell whether there is anything that only TLS has a use for."""
        return any((self.ca_file, self.cert_file, self.cert_key_file))

    def context(self) -> ssl.SSLContext:
        """Give what TLS needs; raises ConfigError for files that can't be used, and for a certificate out of date."""
        if self.cert_key_file is not None and self.cert_file is None:
            raise ConfigError(f"{self.cert_key_file} is a key without its certificate", hint="add --cert FILE")
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise _unusable(self.ca_file, error, "--cacert takes a PEM file of authorities") from None
        if self.ca_file is not None:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the server's own certificate may be named, too
        if self.cert_file is not None:
            self._show(context, self.cert_file)
        return context

    def _show(self, context: ssl.SSLContext, certificate: Path) -> None:
        try:
            context.load_cert_chain(certificate, self.cert_key_file, password=lambda: b"")
            out_of_date = _out_of_date(certificate, self.cert_key_file)
        except (OSError, ssl.SSLError) as error:
            hint = "--cert and --key take PEM files that belong together, the key without a passphrase"
            raise _unusable(certificate, error, hint) from None
        if out_of_date:
            raise ConfigError(f"the client certificate {certificate} {out_of_date}", hint="--cert takes a newer one")


NOBODY: Final = Access()
"""Prove nothing, and believe whom this system believes."""


def _unusable(file: Path | None, error: OSError, hint: str) -> ConfigError:
    reason = getattr(error, "reason", None) or error.strerror or str(error)  # of ssl's errors, or the system's
    reason = "the certificate and the key don't belong together" if reason in _ANOTHER_KEY else reason
    return ConfigError(f"{file} can't be used: {reason.lower().replace('_', ' ')}", hint=hint)


def _out_of_date(certificate: Path, key: Path | None) -> str:
    """Tell what is wrong with a client certificate's dates, "" where nothing is.

    A server that refuses one may say so, but often just hangs up: shaking hands with it in memory tells for sure.
    """
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.check_hostname, ours.verify_mode = False, ssl.CERT_NONE
    theirs.verify_mode = ssl.CERT_REQUIRED
    theirs.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    theirs.load_verify_locations(certificate)
    for context in (ours, theirs):
        context.load_cert_chain(certificate, key, password=lambda: b"")
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = ours.wrap_bio(here, there), theirs.wrap_bio(there, here, server_side=True)
    for _ in range(_TURNS):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return {_EXPIRED: "has expired", _NOT_YET: "is not good yet"}.get(error.verify_code, "")
            except ssl.SSLError:
                return ""  # not for its dates: the server decides
    return ""
