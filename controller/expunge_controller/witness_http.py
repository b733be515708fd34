"""The witness's HTTP side (C2SP tlog-witness): POST /add-checkpoint, GET /<origin hash>/checkpoint."""

from __future__ import annotations

import http.server
import re
import socket
import threading
from typing import Any

from expunge_agent.errors import ExpungeError, TransportError
from expunge_controller.records.witnessing import MAX_REQUEST
from expunge_controller.witness import Reply, WitnessState

SECONDS = 10.0
"""How long a peer may take for one request; then its connection ends."""
MAX_CONNECTIONS = 32
_CHECKPOINT = re.compile(r"/([0-9a-f]{64})/checkpoint")


class WitnessServer:
    """Listens until it is stopped."""

    def __init__(self, state: WitnessState, address: str, port: int, log: Any) -> None:
        """Bind `address` and `port` (0: any free one). Raises TransportError."""

        class Server(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
            daemon_threads = True
            witness = state
            places = threading.BoundedSemaphore(MAX_CONNECTIONS)
            notes = log

        try:
            self._server = Server((address, port), _Handler)
        except OSError as error:
            raise TransportError(
                f"The witness cannot listen on {address} port {port}: {error.strerror}.",
                "Choose another port with --port.",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="witness", daemon=True)

    @property
    def address(self) -> str:
        """``http://host:port``."""
        host, port = self._server.server_address[:2]
        name = host if isinstance(host, str) else host.decode()
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def start(self) -> None:
        """Answer in threads of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Take no further requests; those being answered end with their state on the disk."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "expunge-witness"
    sys_version = ""
    timeout = SECONDS

    def handle(self) -> None:
        """One connection, unless there are too many."""
        places = self.server.places  # type: ignore[attr-defined]
        if not places.acquire(blocking=False):
            return
        try:
            super().handle()
        except ConnectionError:
            pass  # the peer left
        finally:
            places.release()

    def do_POST(self) -> None:
        """add-checkpoint."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,7}", length) or "Transfer-Encoding" in self.headers:
            self._end(Reply(411, b"Say the length.\n"))
        elif int(length) > MAX_REQUEST:
            self._end(Reply(413, b"That is too long.\n"))
        elif self.path != "/add-checkpoint":
            self._end(Reply(404, b"There is nothing here.\n"))
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                self._send(self._answered(body))

    def do_GET(self) -> None:
        """The newest checkpoint of a log (tlog-witness, "Monitor Retrieval Mechanism")."""
        match = _CHECKPOINT.fullmatch(self.path)
        found = self.server.witness.newest(match[1]) if match else None  # type: ignore[attr-defined]
        self._send(Reply(404, b"There is nothing here.\n") if found is None else Reply(200, found))

    def log_message(self, *args: Any) -> None:
        """Requests are logged by `_answered`."""

    def _answered(self, body: bytes) -> Reply:
        server: Any = self.server
        try:
            reply: Reply = server.witness.add_checkpoint(body)
        except (ExpungeError, OSError) as error:
            server.notes.error("a checkpoint could not be looked at", problem=str(error))
            return Reply(500, b"The witness cannot answer now.\n")
        if reply.status == 422:
            server.notes.error("a log does not continue what was seen", said=reply.body.decode().strip())
        else:
            server.notes.info("checkpoint", status=reply.status)
        return reply

    def _end(self, reply: Reply) -> None:
        """Answer without reading the body; the connection ends."""
        self.close_connection = True
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)
