"""Certificates of TLS servers, made by openssl."""

import ssl
import subprocess
from pathlib import Path

from tests.support.programs import program


def certificate_for(name: str, folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Return the context of a server with a certificate for the host `name`, and the file to trust."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *(program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", key, "-out", certificate, "-days", "1", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name}"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context, certificate
