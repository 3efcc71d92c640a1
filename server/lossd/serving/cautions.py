"""Cautions of settings that are no mistakes in themselves, and are seldom meant.

``lossd config --check``, ``lossd doctor`` and the log of a server that starts say the same ones.
"""

import datetime as dt
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from lossd.serving import addresses
from lossd.serving.access.entrance import Entrance, unproven
from lossd.serving.config import Config

OPEN = (
    "the address is open to other hosts, and nobody has to prove who he is: "
    "set tls_client_ca, token_file, access or jwks"
)

# Kinds of keys that a client of gRPC's C library takes for no proof.
UNFAMILIAR = frozenset({"P-521", "Ed25519"})
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "hugetlbfs"})
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(rb"\\([0-3][0-7]{2})")  # what separates the fields there, such as a space


def cautions(config: Config, entered: Entrance) -> Iterator[str]:
    """Yields a text for each, which says what is wrong and what would mend it."""
    if config.is_open:
        yield OPEN
    yield from _proofs(config, entered)
    if config.max_message_bytes > config.max_inflight_bytes:
        yield (
            f"max_message_bytes allows {config.max_message_bytes}, but messages above "
            f"max_inflight_bytes are refused (TOO_LARGE): set it to {config.max_inflight_bytes}"
        )
    if said := on_a_disk(config.shm_dir):
        yield said
    yield from _keys(entered)
    yield from _expired(entered)


def on_a_disk(directory: str) -> str | None:
    """Returns the caution of a directory to share memory in, if its files are not in memory."""
    kind = filesystem_of(directory) if directory else None
    if kind is None or kind in _IN_MEMORY:
        return None
    return (
        f"shm_dir is on {kind}, where shared tensors may be written to a disk: "
        "set it to a directory in a tmpfs, such as one of /dev/shm"
    )


def filesystem_of(directory: str) -> str | None:
    """Returns the type of the file system that a directory is in; None if that is not to be known.

    As where there is no such directory, without which no server starts.
    """
    try:
        wanted = Path(directory).resolve(strict=True)
        mounts = _MOUNTS.read_bytes().split(b"\n")
    except (OSError, RuntimeError):  # of a link to itself, before Python 3.13
        return None
    longest, kind = 0, None
    for one in filter(None, mounts):
        mount, _, source = one.partition(b" - ")
        point = Path(os.fsdecode(_ESCAPED.sub(_character, mount.split(b" ")[4])))
        # Where several are mounted at one point, the last hides the others.
        if wanted.is_relative_to(point) and len(point.parts) >= longest:
            longest, kind = len(point.parts), source.partition(b" ")[0].decode()
    return kind


def _character(escaped: re.Match[bytes]) -> bytes:
    return bytes([int(escaped[1], 8)])


def _proofs(config: Config, entered: Entrance) -> Iterator[str]:
    rules = entered.rules
    has_tokens = config.token_file or config.jwks or (rules is not None and rules.tokens)
    if has_tokens and entered.tls is None and not addresses.is_here(config.address):
        yield (
            "tokens come over the network in plain text, and whoever reads one can use it: "
            "set tls_cert and tls_key"
        )
    if rules is not None:
        for proof, setting in unproven(config, rules).items():
            yield f"access knows callers by {proof}, which none can prove: set {setting}"


def _keys(entered: Entrance) -> Iterator[str]:
    kind = None if entered.tls is None else entered.tls.value.kind
    if kind in UNFAMILIAR:
        yield (
            f"tls_cert has a key of {kind}, which clients in Python and others of gRPC's C library "
            "do not take: issue one of RSA, P-256 or P-384"
        )


def _expired(entered: Entrance) -> Iterator[str]:
    now = time.time()
    for setting, pair in entered.certificates().items():
        if pair.value.expires < now:
            yield f"{setting} expired on {_date(pair.value.expires)}: callers refuse it"
        authority = pair.value.client_ca_expires
        if authority is not None and authority < now:
            yield (
                f"tls_client_ca has an authority that expired on {_date(authority)}: "
                "whoever has a certificate of it cannot connect"
            )


def _date(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).date().isoformat()
