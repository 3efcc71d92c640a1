"""Addresses to listen on: parses them, and says how they are written and called.

gRPC itself reads a missing port as 443 and takes ports modulo 65536.  Here such an address is
refused before gRPC sees it.
"""

import ipaddress
import os
import re
import socket
import urllib.parse
from dataclasses import dataclass

PATH_BYTES = 107  # the longest path that the kernel takes
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
_FORMS = "must be host:port, [IPv6 address]:port, unix:/path or unix-abstract:name"


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
