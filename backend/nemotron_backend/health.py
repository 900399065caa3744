"""Answer the kubelet's probes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Final

from nemotron_api.errors import NemotronError

SILENCE_SECONDS: Final = 5.0

Check = Callable[[], str | None]
"""Nothing when all is well, else a sentence."""


class _Server(ThreadingTCPServer):
    # Not http.server.HTTPServer: it looks its own name up in DNS before it listens.
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def serving(host: str, port: int, checks: dict[str, Check]) -> Iterator[int]:
    """Serve `checks` by path while the context lasts: 200, or 503 with the sentence.

    Gives the port, which the system chooses when `port` is 0.
    """

    class Handler(BaseHTTPRequestHandler):
        # Of the socket: a client that connects and says nothing must not keep a thread.
        timeout = SILENCE_SECONDS

        def do_GET(self) -> None:
            check = checks.get(self.path.partition("?")[0])
            problem = f"no such path: one of {', '.join(checks)}" if check is None else check()
            status = HTTPStatus.OK if problem is None else HTTPStatus.SERVICE_UNAVAILABLE
            body = f"{problem or 'ok'}\n".encode()
            self.send_response(HTTPStatus.NOT_FOUND if check is None else status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is inherited
            """A probe each few seconds is not worth a line."""

    try:
        server = _Server((host, port), Handler)
    except OSError as error:
        raise NemotronError(
            f"cannot listen on {host}:{port} for probes ({error.strerror}): give another port"
        ) from error
    with server:
        Thread(target=server.serve_forever, name="health", daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
