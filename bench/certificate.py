"""The certificate that all peers serve where a row asks for TLS: P-256, made anew for each stand, good for a week."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.launch import BenchError

CIPHER, VERSION = "TLS_AES_256_GCM_SHA384", "TLSv1.3"
"""What every peer and every client of the bench agrees on, each by its own defaults: checked before a row."""


@dataclass(frozen=True)
class Certificate:
    """Its files: the certificate, its key, and both in one as HAProxy wants them."""

    cert: Path
    key: Path
    both: Path

    def context(self) -> ssl.SSLContext:
        """For clients that believe this certificate and no other."""
        return ssl.create_default_context(cafile=str(self.cert))


def make(folder: Path) -> Certificate:
    """Makes one for 127.0.0.1."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise BenchError("openssl is not installed (Debian: apt install openssl)")
    made = Certificate(folder / "bench.crt", folder / "bench.key", folder / "bench.pem")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7", "-subj", "/CN=bench"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    files = ["-keyout", str(made.key), "-out", str(made.cert)]
    done = subprocess.run(
        [openssl, "req", "-x509", *kind, *names, *files], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise BenchError(f"openssl req: {done.stderr.strip()[-200:]}")
    made.both.touch(mode=0o600)
    made.both.write_text(made.cert.read_text() + made.key.read_text())
    return made
