"""Keys, certificates and passwords, from $CREDENTIALS_DIRECTORY only (systemd.exec(5), LoadCredential=).

They are read anew for each connection, so that a renewed certificate needs no restart of the controller.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from controller.config.enclosure import Tls

SECRET_MAX: Final = 4096  # bytes of a password file


class _ClosingSocket(ssl.SSLSocket):
    """The MQTT library leaves a socket open whose handshake failed."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


class CredentialError(Exception):
    """A credential is not there or can't be used; the text names it and never shows what is in it."""


def credential(directory: Path | None, name: str) -> Path:
    """Return where the credential ``name`` lies.

    Raises:
        CredentialError: there is no such credential.
    """
    if directory is None:
        raise CredentialError(f"credential {name} is wanted, but $CREDENTIALS_DIRECTORY is not set")
    path = directory / name
    if not path.is_file():
        raise CredentialError(f"no credential {name} in $CREDENTIALS_DIRECTORY")
    return path


def secret(directory: Path | None, name: str) -> str:
    """Return the first line of a credential: a password.

    Raises:
        CredentialError: it is not there, empty, too long or not UTF-8.
    """
    try:
        with credential(directory, name).open("rb") as file:
            text = file.read(SECRET_MAX + 1)
        line = text.decode().split("\n", 1)[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialError(f"credential {name} can't be read: {type(error).__name__}") from None
    if not line or len(text) > SECRET_MAX:
        raise CredentialError(f"credential {name} is empty or longer than {SECRET_MAX} bytes")
    return line


def tls_context(tls: Tls, directory: Path | None) -> ssl.SSLContext:
    """Return a context that believes only ``tls.ca``, checks the host name and wants TLS 1.2 or later.

    Raises:
        CredentialError: a file is not there, or is not what its name says.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _ClosingSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    wanted = tls.ca
    try:
        context.load_verify_locations(credential(directory, tls.ca))
        if tls.certificate is not None and tls.key is not None:
            wanted = f"{tls.certificate} or {tls.key}"
            context.load_cert_chain(credential(directory, tls.certificate), credential(directory, tls.key))
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or type(error).__name__
        raise CredentialError(f"credential {wanted} can't be used: {why}") from None
    return context
