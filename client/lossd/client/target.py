"""Checks the target of a client, before gRPC misinterprets it.

gRPC takes anything unknown for a name to look up, and adds port 443 to a name without a port: a
call would wait for its whole timeout before it failed.
"""

import ipaddress
import os
import re
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import unquote

from lossd.client.arrays import is_sendable
from lossd.client.errors import InvalidRequestError

# A target, or a function that returns it and is asked again and again.
Target: TypeAlias = str | Callable[[], str]

_RULE = (
    "target must be host:port, [IPv6]:port, dns:///host:port, ipv4:address:port, "
    "ipv6:[address]:port or unix:/path"
)
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<rest>.*)", re.DOTALL)
_AUTHORITY = re.compile(r"//[^/]*/")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\[\]\s/]+\]|[^\[\]\s/:,@?#]+):(?P<port>[0-9]{1,5})")
_NUMBERS = re.compile(r"[0-9.]+")  # of an IPv4 address, and of no name
# gRPC checks the rest of a target with one of these schemes.
_LEFT_TO_GRPC = ("google-c2p", "passthrough", "vsock", "xds")
# A socket's address has 108 bytes for a path, with a zero at its end.
_LONGEST_PATH = 107


def checked_target(target: object) -> str:
    """Returns a target if its form is one that gRPC can connect to.

    Raises:
        InvalidRequestError: if it is no such target.
    """
    if not isinstance(target, str):
        raise _refusal(f"{target!r:.64} of type {type(target).__name__}")
    if "\0" in target or not is_sendable(target):  # gRPC would cut it there, or fail at each call
        raise _refusal(repr(target))
    scheme, rest = _parts(target)
    if not _has_its_form(target, scheme, rest):
        raise _refusal(repr(target))
    if scheme == "unix" and rest.startswith("////"):  # gRPC before 1.73 takes two for a host
        return f"unix:/{rest.lstrip('/')}"
    return target


def is_looked_up(target: str) -> bool:
    """Returns whether a target is a name, which gRPC looks up in DNS."""
    scheme, rest = _parts(target)
    if scheme in ("unix", "unix-abstract", "ipv4", "ipv6", *_LEFT_TO_GRPC):
        return False
    return not _version(_in_dns(rest) if scheme == "dns" else target)


def _parts(target: str) -> tuple[str, str]:
    """Returns the scheme of a target, in lower case, and the rest; without one both are empty."""
    match = _SCHEME.fullmatch(target)
    return (match["scheme"].lower(), match["rest"]) if match else ("", "")


def _has_its_form(target: str, scheme: str, rest: str) -> bool:
    """Returns whether a target is written as its scheme wants it."""
    if scheme in ("unix", "unix-abstract"):
        return _is_path(rest)
    if scheme in ("ipv4", "ipv6"):
        found = unquote(rest.removeprefix("///")).split(",")
        return all(_is_host_and_port(one) and _version(one) == scheme for one in found)
    if scheme == "dns":
        return _is_host_and_port(_in_dns(rest))
    if scheme in _LEFT_TO_GRPC:
        return bool(rest.strip("/"))
    return _is_host_and_port(target)


def _in_dns(rest: str) -> str:
    """Returns the host and the port of a target of DNS, without the server that is to be asked."""
    return unquote(_AUTHORITY.sub("", rest, count=1))


def _is_path(text: str) -> bool:
    if text.startswith("//") and not text.startswith("///"):
        return False
    # gRPC would take a path to end at what starts a query or a fragment.
    path = unquote(text.removeprefix("//"), errors="surrogateescape")
    is_file = not path.endswith("/") and not {"?", "#"} & set(text) and "\0" not in path
    return is_file and 0 < len(os.fsencode(path)) <= _LONGEST_PATH


def _is_host_and_port(text: str) -> bool:
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 1 << 16:
        return False
    is_address = found["host"].startswith("[") or _NUMBERS.fullmatch(found["host"])
    return not is_address or bool(_version(text))


def _version(text: str) -> str:
    """Returns "ipv4" or "ipv6" for host:port whose host is an address of it, "" for a name."""
    host = text.rpartition(":")[0]
    try:
        if host.startswith("["):
            return f"ipv{ipaddress.IPv6Address(unquote(host[1:-1])).version}"
        return f"ipv{ipaddress.IPv4Address(host).version}"
    except ValueError:
        return ""


def _refusal(got: str) -> InvalidRequestError:
    return InvalidRequestError(f"{_RULE}, with a port in [1, 65535], got {got}", field="target")
