"""How gRPC listens: its options, and the addresses it is given.

A server hears itself by a way of its own.  gRPC counts connections for each address by itself, so
whoever takes all places there may be does not take that of the server, which would else take
itself for deaf when its connection has grown old.
"""

import logging
import os
import secrets
import sys
from dataclasses import dataclass

import grpc

from lossd.serving import addresses, free_addresses, socket_file
from lossd.serving.access.entrance import Entrance
from lossd.serving.config import Config
from lossd.serving.free_addresses import AddressError
from lossd.serving.socket_file import SocketFile

log = logging.getLogger(__name__)

# Seconds that an old connection lives on after the last of its calls must have ended.
_AFTER_CALLS_SECONDS = 10.0
# Enough for 400 MB/s to a caller 10 ms away, and little enough for a crowd of them.
_WINDOW_BYTES = 4 << 20
# Calls of one connection, health and reflection with them: where gRPC has a limit, calls that were
# begun and reset at once count until the server has looked at them.
_OPEN_CALLS = 256
# A client that watches health does so for as long as its connection lives.
_WATCHES = 1
# Calls that have come and that no thread has looked at: more than one connection may have, since
# beyond the first number some calls are refused, whoever made them, and beyond the second all.  The
# limits that gRPC has by itself are 1000 and 3000, which take the longer to look at.  Before 1.82
# it heeds neither for calls of any method.
_PENDING = (
    ("grpc.server.max_pending_requests", 512),
    ("grpc.server.max_pending_requests_hard_limit", 1024),
)
_HANDSHAKE_MS = 20_000
# All headers of a call, its token among them: gRPC's own limit.  By itself it refuses some calls
# from half of it on, by chance, and the more the longer they are.
_HEADER_BYTES = 16 << 10
# Older ones inflate all of a compressed message before they look how long it may be.
_INFLATES_TO_THE_LIMIT = (1, 84)
# A message that is worth refusing before it has come.
_LARGE_BYTES = 64 << 20


def options(config: Config, connections: int) -> list[tuple[str, int]]:
    """Returns the options of a gRPC server: its limits, and how long connections live.

    ``connections`` is how many there may be where the operator does not say; 0 for any number.
    """
    return [
        *_age_options(config),
        *_connection_options(config, config.max_connections or connections),
        ("grpc.max_receive_message_length", _longest_message(config)),
        ("grpc.max_send_message_length", -1),  # a reply is about as large as its request
        *_compression_options(grpc.__version__),
        # What a caller may send before anybody asks for it.  gRPC by itself would let it grow with
        # what the network carries, and hold hundreds of megabytes when calls are cancelled.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
        *_PENDING,
        ("grpc.max_metadata_size", _HEADER_BYTES),
        ("grpc.absolute_max_metadata_size", _HEADER_BYTES),
        # TLS, and the first word of HTTP/2, from who connects; two minutes by default.
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.so_reuseport", 0),  # otherwise two servers could silently share a port
        # Allows the pings of the bundled client; the default is one in five minutes.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # A peer that is gone without a word is let go within a minute, idle or not.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 25_000),
        ("grpc.http2.ping_timeout_ms", 25_000),  # a minute by default, and the longer one counts
        ("grpc.http2.max_pings_without_data", 0),
    ]


def _connection_options(config: Config, most: int) -> list[tuple[str, int]]:
    streams = max(_OPEN_CALLS, 2 * config.max_calls)
    if config.max_connection_calls:
        streams = config.max_connection_calls + _WATCHES
    options = [("grpc.max_concurrent_streams", streams)]
    if most:
        options.append(("grpc.max_allowed_incoming_connections", most))
    return options


def _longest_message(config: Config) -> int:
    """Returns the most bytes of a message; one that can never fit is refused before it comes.

    Of others we can tell the caller what gRPC cannot: the limit and the number.
    """
    return min(config.max_message_bytes, max(config.max_inflight_bytes, _LARGE_BYTES))


def _compression_options(version: str) -> list[tuple[str, int]]:
    """Returns options that refuse compression: a small message could take 1000 times its bytes."""
    major, minor, *_ = version.split(".")
    if (int(major), int(minor)) >= _INFLATES_TO_THE_LIMIT:
        return []
    return [
        ("grpc.compression_enabled_algorithms_bitset", 1),  # of "identity" alone
        ("grpc.per_message_decompression", 0),  # whatever comes before that was looked at
    ]


def _age_options(config: Config) -> list[tuple[str, int]]:
    """Returns options under which an old connection takes no new calls."""
    if not config.max_connection_age_seconds:
        return []
    grace = config.max_call_seconds + _AFTER_CALLS_SECONDS
    return [
        ("grpc.max_connection_age_ms", round(config.max_connection_age_seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", round(grace * 1000)),
    ]


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a server is reached, and where it hears itself.

    ``socket`` is the file of its address, if that is one, and ``own`` that of its own way.
    """

    address: str
    heard_at: str
    socket: SocketFile | None
    own: SocketFile | None

    @property
    def files(self) -> tuple[SocketFile, ...]:
        """All that have to be removed."""
        return tuple(file for file in (self.socket, self.own) if file is not None)


def listen(server: grpc.Server, config: Config, entered: Entrance) -> Listening:
    """Listens.

    Raises:
        AddressError: if the address cannot be listened on, or the server could not hear itself.
    """
    credentials = entered.credentials()
    with free_addresses.taking(config.address):
        address, socket = _bound(server, config, credentials)
        if socket is not None and credentials is None:
            own = _own_file(socket.path, server)
            heard_at = address if own is None else socket_file.address_of(own.path)
            return Listening(address, heard_at, socket, own)
    try:
        own_name = _own_name(server, is_needed=credentials is not None)
    except AddressError:
        if socket is not None:
            socket.close()
        raise
    return Listening(address, own_name or address, socket, None)


def _bound(
    server: grpc.Server, config: Config, credentials: grpc.ServerCredentials | None
) -> tuple[str, SocketFile | None]:
    """Binds a server to its address; returns it with its port, and its file if it is one."""

    def bind(address: str) -> int:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)

    path = addresses.file_of(config.address)
    try:
        if path is None:
            return addresses.with_port(config.address, bind(config.address)), None
        return config.address, SocketFile(path, bind, addresses.parse_mode(config.socket_mode))
    except (RuntimeError, OSError) as error:
        # gRPC does not tell which it is; of the files, what can be known was looked at before.
        rule = "free and valid"
        if credentials is not None:
            rule += ", and tls_cert and tls_key what gRPC takes"
        raise AddressError(f"address must be {rule}, got {config.address}") from error


def _own_name(server: grpc.Server, *, is_needed: bool) -> str | None:
    """Returns a name in the kernel's namespace that a server listens at; None where it has none.

    A gate lets nobody in who comes this way: it is not TLS, and no port.

    Raises:
        AddressError: if it is needed, and not to be had.
    """
    if sys.platform != "linux":
        return None
    name = f"unix-abstract:lossd-pulse-{secrets.token_hex(16)}"
    try:
        server.add_insecure_port(name)
    except RuntimeError as error:  # such as where sockets that are no port are forbidden
        if is_needed:
            raise AddressError(f"server must be able to hear itself, got none: {error}") from error
        return None
    return name


def _own_file(path: str, server: grpc.Server) -> SocketFile | None:
    """Returns a socket beside that of callers, which only its user can connect to.

    A name that is no file would be open to all users, whatever the mode of the other.  There is
    none if its path were too long, or something of somebody else's is there.
    """
    folder, name = os.path.split(path)
    own = os.path.join(folder, f".{name}.pulse")  # noqa: PTH118 - it may be no text
    if len(os.fsencode(own)) > addresses.PATH_BYTES:
        return None
    try:
        return SocketFile(own, server.add_insecure_port, 0o600)
    except (OSError, RuntimeError) as error:
        log.warning("server hears itself where callers do", extra={"because": str(error)})
        return None
