"""``/metrics``, ``/healthz`` and ``/readyz``, for Prometheus and for Kubernetes."""

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a slow reader does not keep the process alive


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds that a silent connection is kept

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base's name
        """Says nothing: probes come every few seconds."""


def application(metrics: WSGIApplication, state: Callable[[], str]) -> WSGIApplication:
    """The three pages.

    ``state`` tells "ready", or why not.  ``/healthz`` says that the process answers at all, which
    it does while starting and draining too.
    """

    def respond(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environment["PATH_INFO"]
        if path == "/metrics":
            return metrics(environment, start)
        if path == "/healthz":
            start("200 OK", _text())
            return [b"ok\n"]
        if path == "/readyz":
            found = state()
            start("200 OK" if found == "ready" else "503 Service Unavailable", _text())
            return [f"{found}\n".encode()]
        start("404 Not Found", _text())
        return [b"pages: /metrics, /healthz, /readyz\n"]

    return respond


def _text() -> list[tuple[str, str]]:
    """A list a reply, because the server adds to it."""
    return [("Content-Type", "text/plain; charset=utf-8")]


def serve(host: str, port: int, pages: WSGIApplication) -> WSGIServer:
    """Serves in a thread of its own; port 0 picks one.

    Raises:
        OSError: if the address cannot be listened on.
    """
    server = make_server(host, port, pages, server_class=_Server, handler_class=_Handler)
    threading.Thread(target=server.serve_forever, name="lossd-http", daemon=True).start()
    return server
