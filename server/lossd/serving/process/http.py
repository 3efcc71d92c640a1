"""``/metrics``, ``/healthz`` and ``/readyz``, for Prometheus and for Kubernetes.

Anyone who reaches the port may open connections and send nothing.  The threads are few, a
connection has a few seconds in all, and new connections do not wait for silent ones.
"""

import contextlib
import functools
import logging
import socket
import socketserver
import ssl
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler
from typing import Any, TypeAlias
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from lossd.serving import addresses, free_addresses
from lossd.serving.rpc.threads import BriefThreads

log = logging.getLogger(__name__)

_THREADS = 8
_WAITING = 256  # connections
_PAUSE = 0.05  # seconds

TLS: TypeAlias = Callable[[], ssl.SSLContext] | None  # the newest, or none for plain text


class PageServer(socketserver.TCPServer):
    """Serves pages on a few threads."""

    allow_reuse_address = True
    request_queue_size = 1024  # a burst does not delay the kubelet

    def __init__(
        self, host: str, port: int, pages: WSGIApplication, seconds: float, tls: TLS
    ) -> None:
        address = free_addresses.resolve("metrics_host", host, port)[0]
        self.address_family = address.family
        self._host = host
        self._tls = tls
        super().__init__(address.name, functools.partial(_Handler, pages))
        self._threads = BriefThreads(_THREADS, "lossd-page", seconds=seconds)

    @property
    def url(self) -> str:
        """The URL at which it can be reached."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{addresses.in_url(self._host)}:{self.server_address[1]}"

    def get_request(self) -> Any:
        """Takes a connection."""
        try:
            connection, address = super().get_request()
        except OSError:  # no file descriptor is left, and the connection still waits
            time.sleep(_PAUSE)
            raise
        if self._tls is not None:  # the thread that answers shakes hands, and may have to wait
            connection = self._tls().wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Lets a thread answer a connection."""
        if self._threads.waiting >= _WAITING:
            self.shutdown_request(request)
            return
        answer = functools.partial(self._answer, request, client_address)
        self._threads.start(answer, functools.partial(_cut, request, client_address))

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:  # noqa: BLE001 - whatever it is, the next page is served
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs in one line what went wrong with a connection."""
        del request
        error = sys.exc_info()[1]
        if isinstance(error, ConnectionError):  # the reader left
            return
        if isinstance(error, ssl.SSLError):
            log.info("page was not asked for by TLS", extra={"peer": client_address[0]})
            return
        log.warning("page failed", extra={"peer": client_address[0], "because": repr(error)})


def _cut(request: socket.socket, client_address: Any) -> None:
    """Ends a connection that takes too long, and wakes the thread that reads or writes it."""
    log.info("connection was too slow", extra={"peer": client_address[0]})
    with contextlib.suppress(OSError):
        socket.socket.shutdown(request, socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request of a connection from an application."""

    def __init__(self, pages: WSGIApplication, *arguments: Any) -> None:
        self._pages = pages
        super().__init__(*arguments)

    def version_string(self) -> str:
        """Returns the name alone: a version would help an attacker."""
        return "lossd"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base's name
        """Logs nothing, since probes come every few seconds."""

    def do_GET(self) -> None:
        """Answers with a page; to HEAD as to GET, without the page itself."""
        found: list[tuple[str, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            found.append((status, headers))

        path, _, query = self.path.partition("?")
        environment = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": urllib.parse.unquote(path, "iso-8859-1"),
            "QUERY_STRING": query,
            "HTTP_ACCEPT": self.headers.get("Accept", ""),
            "HTTP_ACCEPT_ENCODING": self.headers.get("Accept-Encoding", ""),
        }
        body = b"".join(self._pages(environment, start))
        status, headers = found[-1]
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the base's name


def application(
    metrics: WSGIApplication, state: Callable[[], str], is_alive: Callable[[], bool] = lambda: True
) -> WSGIApplication:
    """Returns the application with the three pages.

    ``state`` returns "ready", or why not.  ``/healthz`` says whether the server answers at all,
    which it does while starting and draining too, unless ``is_alive`` returns False.
    """

    def respond(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environment["PATH_INFO"]
        if path == "/metrics":
            return metrics(environment, start)
        if path == "/healthz":
            return _told("ok" if is_alive() else "gRPC does not answer", "ok", start)
        if path == "/readyz":
            return _told(state(), "ready", start)
        start("404 Not Found", _text())
        return [b"pages: /metrics, /healthz, /readyz\n"]

    return respond


def _told(found: str, wanted: str, start: StartResponse) -> Iterable[bytes]:
    start("200 OK" if found == wanted else "503 Service Unavailable", _text())
    return [f"{found}\n".encode()]


def _text() -> list[tuple[str, str]]:
    """Returns a new list for each reply, because the server may add to it."""
    return [("Content-Type", "text/plain; charset=utf-8")]


def serve(
    host: str, port: int, pages: WSGIApplication, *, seconds: float = 10, tls: TLS = None
) -> PageServer:
    """Serves pages on new threads; port 0 picks a free one.  A connection has ``seconds`` in all.

    Raises:
        AddressError: if the host is unknown.
        OSError: if the address cannot be listened on.
        ThreadsError: if the system does not have enough threads.
    """
    server = PageServer(host, port, pages, seconds, tls)
    threading.Thread(target=server.serve_forever, name="lossd-http", daemon=True).start()
    return server
