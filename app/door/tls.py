"""The server's certificate."""

import ssl
from pathlib import Path

from medusa.errors import MedusaError


def tls_context(certificate: Path | None, key: Path | None = None) -> ssl.SSLContext | None:
    """What a server needs to speak TLS; None if it has no certificate.

    Args:
        certificate: the server's certificate (PEM), and those that vouch for it.
        key: its private key (PEM); None: it is in the certificate's file.

    Raises:
        MedusaError: the files cannot be used.
    """
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise MedusaError(f"--ssl-certfile and --ssl-keyfile cannot be used: {error}") from error
    return context
