"""One peer that means ill beside ten that do not: these see no error within their deadlines."""

import contextlib
import socket
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lossd import tensors, v1
from lossd.client import LossClient
from tests.end_to_end.conftest import metric, page, serve
from tests.end_to_end.frames import Peer
from tests.end_to_end.hostile import (
    ATTACKS,
    MIB,
    Attack,
    Target,
    attacked,
    half_messages,
    headers,
    honest,
    served,
    slow_pages,
    unread,
)
from tests.waiting import until

EVALUATE = "/lossd.v1.EvaluationService/Evaluate"
QUICK = (headers, unread, half_messages, slow_pages)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_the_honest_are_answered_beside_one_that_is_not(
    request: pytest.FixtureRequest, attack: Attack
) -> None:
    is_whole = request.config.getoption("--whole")
    if not is_whole and attack not in QUICK:
        pytest.skip("takes ten seconds: run with --whole")
    limit = ("--max-inflight-bytes", str(256 * MIB))
    with served("--threads", "1", *limit) as (process, target), attacked(target, attack):
        calls = honest(process, 10.0 if is_whole else 0.5)
    assert all(calls)


def can_connect(target: Target) -> bool:
    """Whether the attacker's address is let in at once."""
    host, _, port = target.address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1.0, (target.source, 0)).close()
    except TimeoutError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="sockets are found there only")
def test_who_drops_its_calls_loses_its_connection_and_waits_for_another() -> None:
    with (
        served("--max-connection-resets", "20") as (process, target),
        LossClient(process.address) as honest,
    ):
        honest.server_info()
        while can_connect(target):
            with target.peer() as peer:
                while not peer.is_closed and can_connect(target):
                    for _ in range(20):  # more than may be, however long a look takes
                        peer.reset(peer.begin())
        assert metric(process, "lossd_rejected_total", reason="TOO_MANY_RESETS") >= 2
        honest.server_info()
        with LossClient(process.address) as another:
            another.server_info()


def matrix() -> bytes:
    """A request of a hundred bytes whose answer has eight MiB."""
    made = v1.EvaluateRequest()
    made.metrics.add().confusion_matrix.classes = 1024
    for name in ("predictions", "targets"):
        tensors.fill(made.batch.inputs.add(name=name).tensors.add(), np.zeros(4, np.int64))
    return made.SerializeToString()


def test_answers_that_nobody_reads_count() -> None:
    with (
        serve("--backend", "numpy", "--max-inflight-bytes", str(64 * MIB)) as process,
        closing(Peer(process.address, window=0)) as peer,
    ):
        for _ in range(32):
            peer.message(peer.begin(EVALUATE), matrix())
        until(lambda: metric(process, "lossd_rejected_total", reason="TOO_MANY_BYTES"))

        def is_held() -> bool:
            peer.message(peer.begin(EVALUATE), matrix())  # all that come at once may be refused
            return metric(process, "lossd_inflight_bytes") >= 8 * MIB  # once it is computed

        until(is_held)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared there only")
@pytest.mark.parametrize("settings", [(), ("--max-connections", "1000")], ids=["bounded", "not"])
def test_connections_that_take_all_files_end_no_thread(
    settings: tuple[str, ...], tmp_path: Path
) -> None:
    few = ("sh", "-c", 'ulimit -n 220; exec "$@"', "sh")
    with (
        serve("--backend", "numpy", "--shm-dir", str(tmp_path), *settings, inside=few) as process,
        LossClient(process.address) as honest,
        contextlib.ExitStack() as silent,
    ):
        honest.server_info()
        host, _, port = process.address.rpartition(":")
        for _ in range(300):
            silent.enter_context(socket.create_connection((host, int(port))))
        if settings:
            while not process.has_logged("will try again"):
                assert process.process.poll() is None
                time.sleep(0.05)
            silent.close()  # nobody else can be let in
        assert page(process, "/healthz")[0] == 200
        honest.server_info()
        silent.close()
        assert process.end() == 0
        assert process.has_logged("will try again") == bool(settings)
