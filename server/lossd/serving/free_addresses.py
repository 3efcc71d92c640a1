"""Free addresses: checks that a server could listen where it is told to.

gRPC itself replaces a Unix socket on which another server listens.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossd.errors import ServiceError
from lossd.serving.addresses import Port, file_of, parse, parse_host

# What the system says of an address that it does not have.
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class AddressError(ServiceError):
    """The address cannot be listened on."""

    reason = "ADDRESS"


class TakenError(AddressError):
    """Somebody else listens there already."""


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """An address that sockets of a family can be bound to."""

    family: socket.AddressFamily
    name: Any


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
