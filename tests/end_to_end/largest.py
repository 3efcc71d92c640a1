"""The largest batches of every loss and metric, to a server in 4 GiB: answered or refused.

    python -m tests.end_to_end.largest [NAME ...]

needs root and control groups of memory.  A server with the settings of the Kubernetes manifest is
started in a group of 4 GiB, and is sent batches of each loss and metric, each twice as large as the
one before, until one is refused.  Nothing may be killed, whatever comes of it.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lossd import v1
from lossd.client import metrics as client
from lossd.client.requests import build_request
from lossd.evaluation import METRICS
from lossd.losses import LOSSES, Loss
from lossd.networks import save
from tests.drawn_networks import NETWORKS
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.raw import CHANNEL
from tests.evaluation.test_memory import CASES
from tests.fuzz.seeds import COMPUTE, EVALUATE
from tests.messages import message_of
from tests.sampling import cases

MIB = 1 << 20
GROUP_BYTES = 4096 * MIB
# Of deploy/kubernetes/base/deployment.yaml, which ``tests.deploy.test_kubernetes`` reads.
SETTINGS = (
    "--backend", "numpy", "--threads", "2", "--max-inflight-bytes", str(1024 * MIB),
    "--max-message-bytes", str(256 * MIB),
)  # fmt: skip
PATIENCE = 20.0
_SIZES = tuple(MIB << power for power in range(1, 9))  # to 256 MiB, which is the limit
# Where groups of memory are, and a file that is there if so.
_CONTROLLERS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "cgroup.subtree_control"),
)


@dataclass(frozen=True, slots=True)
class Group:
    """A control group of memory, of either version."""

    folder: Path

    @property
    def _is_old(self) -> bool:
        return (self.folder / "memory.limit_in_bytes").exists()

    def limit(self, nbytes: int) -> None:
        """Sets what all in it may have together, without swap."""
        name = "memory.limit_in_bytes" if self._is_old else "memory.max"
        (self.folder / name).write_text(str(nbytes))

    def most(self) -> int:
        """Returns the most that it ever had, files in the page cache with it."""
        name = "memory.max_usage_in_bytes" if self._is_old else "memory.peak"
        return int((self.folder / name).read_text())

    def killed(self) -> int:
        """Returns how many processes were killed for their memory."""
        name = "memory.oom_control" if self._is_old else "memory.events"
        facts = dict(line.split() for line in (self.folder / name).read_text().splitlines())
        return int(facts.get("oom_kill", 0))


@contextlib.contextmanager
def group(nbytes: int) -> Iterator[Group]:
    """Makes a control group, where one may."""
    for controllers, sign in _CONTROLLERS:
        if not (controllers / sign).exists():
            continue
        folder = controllers / f"lossd-{os.getpid()}"
        try:
            folder.mkdir()
            made = Group(folder)
            made.limit(nbytes)
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            continue
        try:
            yield made
        finally:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:  # it is busy while a process ends
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    break
                time.sleep(0.1)
        return
    pytest.skip("control groups of memory need root and their file system")


def inside(made: Group) -> tuple[str, ...]:
    """Returns the command that runs another one in a group."""
    return ("sh", "-c", f'echo $$ > {made.folder}/cgroup.procs && exec "$@"', "sh")


def of_loss(loss: Loss) -> Callable[[int], bytes]:
    """Returns what makes a request of about so many bytes."""

    def drawn(rows: int) -> bytes:
        case = next(cases(loss, rows=rows, length=32)).astype(np.float32)
        inputs = {n: a[0] if len(a) == 1 else list(a) for n, a in case.job().inputs.items()}
        return build_request(message_of(case), inputs, gradients=case.derivatives).serialise()

    own = len(drawn(64))
    return lambda size: drawn(max(1, size * 64 // own))


def of_metric(name: str) -> Callable[[int], bytes]:
    """Returns what makes a request of about so many bytes."""
    parameters, draw = [(p, make) for n, p, make in CASES if n == name][-1]
    spec = v1.MetricSpec(**{name: getattr(v1, METRICS[name].message)(**parameters)})

    def drawn(count: int) -> bytes:
        data = draw(np.random.default_rng(0), count)
        return client.build_request([spec], data, return_state=True).SerializeToString()

    def make(size: int) -> bytes:
        own = len(drawn(4096))
        return drawn(size * 4096 // own)

    return make


def largest(process: Process, method: str, make: Callable[[int], bytes]) -> dict[str, Any]:
    """Sends larger and larger requests; returns what came of them, by MiB."""
    found: dict[str, Any] = {}
    with grpc.insecure_channel(process.address, options=CHANNEL) as channel:
        call: Any = channel.unary_unary(method)
        for size in _SIZES:
            message = make(size)
            try:
                call(message, timeout=PATIENCE)
            except grpc.RpcError as error:
                failed: Any = error
                found[f"{len(message) / MIB:.0f}"] = failed.code().name
                break
            found[f"{len(message) / MIB:.0f}"] = "OK"
    return found


def everything() -> dict[str, tuple[str, Callable[[], Callable[[int], bytes]]]]:
    """Returns each loss and metric: its method, and what makes its requests."""
    losses = {name: (COMPUTE, lambda loss=loss: of_loss(loss)) for name, loss in LOSSES.items()}
    metrics = {name: (EVALUATE, lambda name=name: of_metric(name)) for name in METRICS}
    return {**losses, **metrics}


def save_networks(folder: Path) -> None:
    """Writes the networks that losses of images look through in tests."""
    for network in NETWORKS.by_name.values():
        save(folder, network)


def main() -> None:
    """Tries everything, or what is named, and prints what came of it."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        save_networks(Path(folder))
        made = stack.enter_context(group(GROUP_BYTES))
        given = (*SETTINGS, "--networks", folder)
        process = stack.enter_context(serve(*given, inside=inside(made)))
        for name, (method, maker) in everything().items():
            if len(sys.argv) > 1 and name not in sys.argv[1:]:
                continue
            begun = time.monotonic()
            found = largest(process, method, maker())
            told = {
                "name": name,
                "MiB": found,
                "most": made.most() // MIB,
                "killed": made.killed(),
                "seconds": round(time.monotonic() - begun, 1),
            }
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
            assert process.process.poll() is None, "the server was killed"


if __name__ == "__main__":
    main()
