"""Ends connections, and has an address wait for new ones, where gRPC offers neither.

The sockets are gRPC's and stay so: they are found among the open files of this process.  New
connections wait by a filter on the socket that listens, which drops the first packet of those that
come from certain addresses; their systems send it again after a second or more.  Nothing else of a
connection is ever dropped, though connections inherit the filter.
"""

import contextlib
import ctypes
import enum
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

Address: TypeAlias = IPv4Address | IPv6Address
Endpoint = tuple[Address, int]

MOST = 64  # addresses that wait at a time: a filter has at most 4096 instructions

_OPEN_FILES = Path("/proc/self/fd")  # Linux
_ATTACH_FILTER, _DETACH_FILTER = 26, 27  # SO_..., which Python has no names for
# Instructions of the classic packet filter of BSD.
_LOAD_WORD, _LOAD_BYTE, _AND, _IS_EQUAL, _RETURN = 0x20, 0x30, 0x54, 0x15, 0x06
_FLAGS_AT, _SYN, _SYN_AND_ACK = 13, 0x02, 0x12  # in the header of TCP
_NETWORK = 0xFFF00000  # counts from the header of IP on
_WHOLE = 0xFFFFFFFF
_VERSION_BITS = 0xF0
_PIECE_BYTES = 1 << 16


def endpoint(peer: str) -> Endpoint | None:
    """Returns address and port of a peer as gRPC writes it; None if it came another way."""
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in {"ipv4", "ipv6"} or not port.isdecimal():
        return None
    with contextlib.suppress(ValueError):
        return _plain(host.strip("[]")), int(port)
    return None


class Outcome(enum.Enum):
    """The result of ending a connection."""

    ENDED = enum.auto()
    GONE = enum.auto()  # it had ended by itself
    UNKNOWN = enum.auto()  # it could not be looked for, or has no address


def end(peer: str) -> Outcome:
    """Ends the connection of a peer."""
    wanted = endpoint(peer)
    if wanted is None:
        return Outcome.UNKNOWN
    try:
        count = _each_socket(lambda found: _endpoint_of(found.getpeername) == wanted, _ended)
    except OSError:
        return Outcome.UNKNOWN
    return Outcome.ENDED if count else Outcome.GONE


def let_wait(port: int, addresses: Sequence[Address]) -> bool:
    """Has new connections of some addresses to a port wait, and of no others.

    Returns whether that is done.
    """
    change = _opened if not addresses else lambda found: _filtered(found, addresses[:MOST])
    try:
        return _each_socket(lambda found: _listens_on(found, port), change) > 0
    except OSError:
        return False


def _plain(host: str) -> Address:
    """Returns an address, of version 4 if it is one in the clothes of version 6."""
    found = ip_address(host.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found


def _endpoint_of(name: Callable[[], Sequence[str | int]]) -> Endpoint:
    host, port = name()[:2]
    return _plain(str(host)), int(port)


def _listens_on(found: socket.socket, port: int) -> bool:
    is_listening = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return bool(is_listening) and found.getsockname()[1] == port


def _each_socket(
    is_meant: Callable[[socket.socket], bool], change: Callable[[socket.socket], object]
) -> int:
    """Changes the sockets of TCP that are meant; returns how many there were.

    Raises:
        OSError: if they cannot be looked at (as on no Linux, or without a descriptor), or changed.
    """
    count = 0
    for found in _sockets():
        is_one = False
        with contextlib.suppress(OSError):  # it may not be connected, or closed meanwhile
            is_one = is_meant(found)
        if is_one:
            change(found)
            count += 1
    return count


def _sockets() -> Iterator[socket.socket]:
    """Yields this process's sockets of TCP, which belong to others.

    They are not duplicated to be looked at, which would keep a connection open that gRPC closes.
    Its number may so be another connection's by now, in the worst case; that client connects again.
    """
    for number in [int(each.name) for each in _OPEN_FILES.iterdir()]:
        try:
            found = socket.socket(fileno=number)
        except OSError:
            continue
        try:
            if found.type == socket.SOCK_STREAM and found.family != socket.AF_UNIX:
                yield found
        finally:
            found.detach()


def _ended(found: socket.socket) -> None:
    """Ends a connection, and throws away what has come on it, which gRPC would read first.

    By a number of its own: once it has ended, gRPC gives its number to another connection.
    """
    with found.dup() as own:
        own.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):  # nothing has come, or its peer has ended it too
            while own.recv(_PIECE_BYTES, socket.MSG_DONTWAIT):
                pass


def _opened(found: socket.socket) -> None:
    found.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)


def _filtered(found: socket.socket, addresses: Iterable[Address]) -> None:
    program = [*_unless_first(), *(step for each in addresses for step in _dropping(each))]
    program.append(_step(_RETURN, value=_WHOLE))
    code = ctypes.create_string_buffer(b"".join(program))
    packed = struct.pack("HP", len(program), ctypes.addressof(code))  # aligned, as in C
    found.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, packed)


def _unless_first() -> list[bytes]:
    """Lets every packet pass that does not ask for a connection."""
    return [
        _step(_LOAD_BYTE, value=_FLAGS_AT),
        _step(_AND, value=_SYN_AND_ACK),
        _step(_IS_EQUAL, yes=1, value=_SYN),
        _step(_RETURN, value=_WHOLE),
    ]


def _dropping(address: Address) -> list[bytes]:
    """Drops a packet of an address, and goes on after the last of the steps for others."""
    first_word = 12 if address.version == 4 else 8  # of where it comes from
    words = struct.unpack(f"!{len(address.packed) // 4}I", address.packed)
    steps = [_LOAD_BYTE, _AND, _IS_EQUAL, *(_LOAD_WORD, _IS_EQUAL) * len(words), _RETURN]
    values = [_NETWORK, _VERSION_BITS, address.version << 4]
    for place, word in enumerate(words):
        values += [_NETWORK + first_word + 4 * place, word]
    values.append(0)
    return [
        _step(code, no=len(steps) - at - 1 if code == _IS_EQUAL else 0, value=value)
        for at, (code, value) in enumerate(zip(steps, values, strict=True))
    ]


def _step(code: int, *, yes: int = 0, no: int = 0, value: int) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)
