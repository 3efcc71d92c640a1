"""Addresses to listen on: parses them, and checks that they are free.

gRPC itself reads a missing port as 443, takes ports modulo 65536, and replaces a Unix socket on
which another server listens.  Here such an address is refused before gRPC sees it.
"""

import contextlib
import errno
import fcntl
import ipaddress
import os
import re
import socket
import stat
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossd.errors import ServiceError

# What the system says of an address that it does not have.
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
PATH_BYTES = 107  # the longest path that the kernel takes
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
_FORMS = "must be host:port, [IPv6 address]:port, unix:/path or unix-abstract:name"


class AddressError(ServiceError):
    """The address cannot be listened on."""

    reason = "ADDRESS"


class TakenError(AddressError):
    """Somebody else listens there already."""


@dataclass(frozen=True, slots=True)
class Port:
    """A TCP port of a host; 0 stands for any free one."""

    host: str
    number: int


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A Unix socket: a file, or a name in the kernel's abstract namespace."""

    path: str
    is_abstract: bool = False


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """An address that sockets of a family can be bound to."""

    family: socket.AddressFamily
    name: Any


def parse(address: str) -> Port | UnixSocket:
    """Returns the port or the socket that an address means.

    Raises:
        ValueError: if it is no address, with the rule that it breaks.
    """
    scheme, colon, rest = address.partition(":")
    if colon and scheme in {"unix", "unix-abstract"}:
        return _unix_socket(scheme, rest)
    host, colon, number = address.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not is_bracketed):
        raise ValueError(_FORMS)
    try:
        host = parse_host(host)
    except ValueError as error:
        raise ValueError(_FORMS) from error
    if not re.fullmatch(r"[0-9]{1,5}", number) or int(number) > 65535:
        raise ValueError("must have a port in [0, 65535]")
    return Port(host, int(number))


def parse_host(host: str) -> str:
    """Returns the name or the IP address of a host, without the brackets of IPv6.

    Raises:
        ValueError: if it is no host, with the rule that it breaks.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    rule = "must be a host name or an IP address"
    if ":" in bare or bare != host:
        return str(_checked(ipaddress.IPv6Address, bare, rule))
    labels = bare.removesuffix(".").split(".")
    if labels[-1].isdigit():  # no name ends like that, and the system would complete 127.1
        return str(_checked(ipaddress.IPv4Address, bare, rule))
    if len(bare) > 253 or not all(len(x) < 64 and _NAME.fullmatch(x) for x in labels):
        raise ValueError(rule)
    return bare


def parse_mode(text: str) -> int | None:
    """Returns the mode of a socket; None where none is given.

    Raises:
        ValueError: if it is none, with the rule.
    """
    if not text:
        return None
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError("must be three octal digits, such as 660")
    return int(text, 8)


def is_here(address: str) -> bool:
    """Returns whether only this host can reach an address."""
    found = parse(address)
    if isinstance(found, UnixSocket):
        return True
    try:
        return ipaddress.ip_address(found.host).is_loopback
    except ValueError:
        return found.host == "localhost"


def file_of(address: str) -> str | None:
    """Returns the path of a Unix socket that is a file; None for any other address."""
    found = parse(address)
    return found.path if isinstance(found, UnixSocket) and not found.is_abstract else None


def _checked(
    kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address], text: str, rule: str
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(rule) from error


def _unix_socket(scheme: str, rest: str) -> UnixSocket:
    if rest.startswith("//"):
        if not rest.startswith("///"):
            raise ValueError(_FORMS)
        rest = rest.removeprefix("//")
    path = urllib.parse.unquote(rest, errors="surrogateescape")  # as gRPC would read it
    # gRPC would take a path to end at what starts a query or a fragment.
    if not path or "\0" in path or path.endswith("/") or not _is_encodable(path):
        raise ValueError(_FORMS)
    if {"?", "#"} & set(rest):
        raise ValueError("must be written with %3F for ? and %23 for # in a path")
    if len(os.fsencode(path)) > PATH_BYTES:
        raise ValueError(f"must have a path of at most {PATH_BYTES} bytes")
    return UnixSocket(path, is_abstract=scheme == "unix-abstract")


def _is_encodable(path: str) -> bool:
    try:
        return bool(os.fsencode(path))
    except UnicodeError:
        return False


def with_port(address: str, number: int) -> str:
    """Returns the address with the number of the port that was chosen."""
    found = parse(address)
    return address if isinstance(found, UnixSocket) else f"{address.rpartition(':')[0]}:{number}"


def port_of(address: str) -> int:
    """Returns the number of the port of an address; 0 for a Unix socket."""
    found = parse(address)
    return 0 if isinstance(found, UnixSocket) else found.number


def is_same(one: Port, other: Port) -> bool:
    """Returns whether two servers at these would surely be in each other's way."""
    if one.number != other.number or one.number == 0:
        return False
    hosts = {_known_as(one.host), _known_as(other.host)}
    if len(hosts) == 1 or "::" in hosts:  # where nothing else is said, :: takes version 4 too
        return True
    return "0.0.0.0" in hosts and all(map(_is_version_4, hosts))  # noqa: S104 - a look


def _known_as(host: str) -> str:
    name = host.lower().removesuffix(".")
    return "127.0.0.1" if name == "localhost" else name


def _is_version_4(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 4
    except ValueError:
        return False


def reachable(address: str) -> str:
    """Returns an address to call a server at: the loopback for one that listens everywhere."""
    found = parse(address)
    if isinstance(found, UnixSocket) or found.host not in {"0.0.0.0", "::"}:  # noqa: S104 - a look
        return address
    here = "[::1]" if found.host == "::" and has_loopback_of_ipv6() else "127.0.0.1"
    return f"{here}:{found.number}"


def has_loopback_of_ipv6() -> bool:
    """Returns whether it may be called: systems without IPv6 listen with version 4 everywhere."""
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        return False
    return True


def in_url(host: str) -> str:
    """Returns a host as it is written in URLs."""
    bare = parse_host(host)
    return f"[{bare}]" if ":" in bare else bare


def resolve(setting: str, host: str, port: int) -> list[SocketAddress]:
    """Returns the addresses that a host and a port resolve to, IPv4 first.

    Raises:
        AddressError: if the host is unknown, naming the setting.
    """
    try:
        found = socket.getaddrinfo(
            parse_host(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise AddressError(
            f"{setting} must name a host that is known, got {host}: {error.strerror}"
        ) from error
    candidates = [SocketAddress(family, name) for family, _, _, _, name in found]
    return sorted(candidates, key=lambda candidate: candidate.family != socket.AF_INET)


def check_free(address: str) -> None:
    """Checks that a server could listen there.

    Raises:
        TakenError: if another server does.
        AddressError: if not, with the reason.
    """
    found = parse(address)
    if isinstance(found, Port):
        _check_port(address, found)
    elif found.is_abstract:
        _check_abstract(address, found.path)
    else:
        _check_path(address, found.path)


def check_pages_free(host: str, port: int) -> None:
    """Checks that pages could be served there.

    Raises:
        TakenError: if something else is.
        AddressError: if not, with the reason.
    """
    try:
        _try(resolve("metrics_host", host, port)[0])
    except OSError as error:
        raise pages_fault(host, port, error) from error


def pages_fault(host: str, port: int, error: OSError) -> AddressError:
    """Returns what is wrong with an address for pages that the system refuses."""
    because = error.strerror
    if error.errno in _NOT_HERE:
        return AddressError(f"metrics_host must be one of this machine, got {host}: {because}")
    kind = TakenError if error.errno == errno.EADDRINUSE else AddressError
    return kind(f"metrics port must be free, got {port}: {because}")


@contextlib.contextmanager
def taking(address: str) -> Iterator[None]:
    """Checks that an address is free, for a caller that listens on it within the context.

    Meanwhile no other server takes the path; otherwise both would find it free.

    Raises:
        AddressError: as ``check_free``.
    """
    path = file_of(address)
    with contextlib.ExitStack() as stack:
        if path is not None:
            stack.enter_context(alone_in(Path(path).parent))
        check_free(address)
        yield


def _check_port(address: str, port: Port) -> None:
    faults: list[OSError] = []
    candidates = resolve("address", port.host, port.number)
    for candidate in candidates:
        try:
            _try(candidate)
        except OSError as error:
            faults.append(error)
    for fault in faults:
        if fault.errno == errno.EADDRINUSE or len(faults) == len(candidates):
            raise _taken(address, fault)


def _try(candidate: SocketAddress) -> None:
    """Raises OSError if nobody could listen there, as where the system lacks the family."""
    with socket.socket(candidate.family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if candidate.family == socket.AF_INET6:
            trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        trial.bind(candidate.name)


def _check_abstract(address: str, name: str) -> None:
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.bind(b"\0" + os.fsencode(name))
        except OSError as error:
            raise _taken(address, error) from error


def _taken(address: str, error: OSError) -> AddressError:
    kind, rule = AddressError, "be one of this machine"
    if error.errno == errno.EADDRINUSE:
        kind, rule = TakenError, "be free"
    elif error.errno in {errno.EACCES, errno.EPERM}:
        rule = "be one that this user may take"
    return kind(f"address must {rule}, got {address}: {error.strerror}")


def check_directory(address: str) -> None:
    """Checks that there is a directory for the file of a Unix socket; any other address needs none.

    Raises:
        AddressError: if not, with the reason.
    """
    path = file_of(address)
    if path is None:
        return
    folder = Path(path).parent
    if not folder.is_dir():
        raise AddressError(f"address must be in a directory that exists, got {address}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise AddressError(f"address must be in a directory that may be written, got {address}")


def _check_path(address: str, path: str) -> None:
    check_directory(address)
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a path of bytes that are no text is one too
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise AddressError(f"address must be free, got {address}: a file that is no socket")
    if _is_answered(path):
        raise TakenError(f"address must be free, got {address}: another server listens there")


def _is_answered(path: str) -> bool:
    """Returns whether a server listens on a socket, or may; otherwise it was left behind."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.setblocking(False)  # noqa: FBT003 - its only argument
        try:
            caller.connect(path)
        except OSError as error:
            return error.errno not in {errno.ECONNREFUSED, errno.ENOENT}
        return True


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Waits briefly for other servers that take a path in a directory, whatever its mode."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield
        return
    try:
        for _ in range(50):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
