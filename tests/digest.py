"""A digest of what the project answers, to show that moving code changes no bit.

    python -m tests.digest --write before.json      # before the first move
    python -m tests.digest --against before.json    # after the last: which requests differ

A few thousand requests are computed, over every loss, metric, type, memory layout, policy, option
and transport, all from seeds; refusals count as answers.  ``--backend cupy --one-in 40`` does a
sample on a GPU.
"""

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lossd.backends import Backend
from lossd.backends.choose import BackendChoice, choose
from lossd.backends.cupy import _import_cupy
from lossd.client import LossdError as ClientError
from lossd.engine import Engine
from lossd.errors import ServiceError
from tests.device import stand_in_for_sorting
from tests.digest_requests import (
    large_losses,
    losses,
    metrics,
    other_layouts,
    sums,
    transports,
)
from tests.drawn_networks import NETWORKS


def digest_of(compute: Callable[[], Any]) -> str:
    """A digest of an answer; of a refusal its kind, words and field."""
    try:
        found = compute()
    except (ServiceError, ClientError) as error:
        found = (type(error).__name__, str(error), getattr(error, "field", None))
    made = hashlib.sha256()
    for part in _parts(found):
        made.update(part)
    return made.hexdigest()[:16]


_OF_NO_INTEREST = {"server_timing", "request_id"}


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, dict):
        for key in sorted(value):
            yield str(key).encode()
            yield from _parts(value[key])
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _parts(one)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            if name not in _OF_NO_INTEREST:
                yield from _parts(getattr(value, name))
    else:
        yield repr(value).encode()


def _backend(name: str) -> Backend:
    if name == "cupy":
        stand_in_for_sorting(_import_cupy())
    return choose(BackendChoice(name), threads=2).backend


def _collected(backend: str, share: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    engine = Engine(_backend(backend), NETWORKS)
    sources = [losses(engine), sums(engine), other_layouts(engine), large_losses(engine)]
    if backend == "numpy":
        sources += [metrics(engine), transports()]
    for source in sources:
        for number, (name, compute) in enumerate(source):
            if number % share == 0:
                found[name].append(digest_of(compute))
    engine.close()
    return found


def _report(found: dict[str, list[str]]) -> None:
    total = hashlib.sha256()
    for name, digests in sorted(found.items()):
        one = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
        total.update(one.encode())
        print(f"{name:32} {len(digests):5} {one}")  # noqa: T201 - a command
    count = sum(map(len, found.values()))
    print(f"{'total':32} {count:5} {total.hexdigest()[:16]}")  # noqa: T201


def main() -> int:
    """Prints the digests, and what differs from others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["numpy", "cupy"], default="numpy")
    parser.add_argument("--one-in", type=int, default=1, metavar="N")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--against", type=Path)
    given = parser.parse_args()
    found = _collected(given.backend, given.one_in)
    _report(found)
    if given.write:
        given.write.write_text(json.dumps(found))
    if not given.against:
        return 0
    others = json.loads(given.against.read_text())
    faults = 0
    for name in sorted({*found, *others}):
        mine, theirs = found.get(name, []), others.get(name, [])
        wrong = [i for i, pair in enumerate(zip(mine, theirs, strict=False)) if len({*pair}) > 1]
        if wrong or len(mine) != len(theirs):
            faults += 1
            print(f"differs: {name}, {len(theirs)} before, requests {wrong}")  # noqa: T201
    return int(faults > 0)


if __name__ == "__main__":
    raise SystemExit(main())
