"""A time-stamping authority of our own: a root, a certificate for the purpose, `openssl ts` behind HTTP on loopback."""

from __future__ import annotations

import json
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_REPLY = (
    "openssl",
    "ts",
    "-reply",
    "-config",
    "ts.cnf",
    "-section",
    "tsa",
    "-signer",
    "tsa.pem",
    "-inkey",
    "key.pem",
)
CONFIG = """
[tsa]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""


class TimeAuthority:
    """In `folder`; its certificate is good for `days`. `spoil` changes what it answers."""

    def __init__(self, folder: Path, name: str, days: float = 365) -> None:
        folder.mkdir()
        self.name = name
        self._folder = folder
        self.answers: list[bytes] = []
        self.spoil: tuple[int, bytes] | None = None
        now = datetime.now(UTC)
        root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        ends = now + timedelta(days=days)
        self.root = _certificate(f"{name} root", root_key, f"{name} root", root_key, ends, None)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        leaf = _certificate(name, key, f"{name} root", root_key, ends, usage)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for file, data in (
            ("key.pem", private),
            ("tsa.pem", leaf.public_bytes(Encoding.PEM)),
            ("root.pem", self.pem.encode()),
            ("ts.cnf", CONFIG.format(folder=folder).encode()),
            ("serial", b"01\n"),
        ):
            (folder / file).write_bytes(data)
        self._lock = threading.Lock()
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                status, body = authority._answer(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def pem(self) -> str:
        return self.root.public_bytes(Encoding.PEM).decode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/stamp"

    def policy(self, url: bool = True) -> str:
        """Its part of a log-policy.toml."""
        address = f"url = {json.dumps(self.url)}\n" if url else ""
        return f"[[authority]]\nname = {json.dumps(self.name)}\nroots = {json.dumps(self.pem)}\n{address}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _answer(self, request: bytes) -> tuple[int, bytes]:
        if self.spoil is not None:
            return self.spoil
        with self._lock:
            query, reply = self._folder / "query.tsq", self._folder / "reply.tsr"
            query.write_bytes(request)
            subprocess.run(
                [*_REPLY, "-queryfile", query, "-out", reply],
                check=True,
                capture_output=True,
                cwd=self._folder,
            )
            self.answers.append(reply.read_bytes())
            return 200, self.answers[-1]


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    ends: datetime,
    usage: x509.ExtendedKeyUsage | None,
) -> x509.Certificate:
    def called(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    made = (
        x509.CertificateBuilder()
        .subject_name(called(name))
        .issuer_name(called(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=usage is None, path_length=None), critical=True)
    )
    if usage is not None:
        made = made.add_extension(usage, critical=True)
    return made.sign(issuer_key, hashes.SHA256())
