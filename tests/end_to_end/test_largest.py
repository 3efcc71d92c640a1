"""In a control group of memory whatever is sent is answered or refused, and nothing is killed."""

from pathlib import Path

import pytest

from tests.end_to_end.conftest import serve
from tests.end_to_end.largest import (
    GROUP_BYTES,
    MIB,
    SETTINGS,
    everything,
    group,
    inside,
    largest,
    save_networks,
)

QUICK = ("pairwise_auc", "confusion_matrix")
SMALL = (
    "--backend", "numpy", "--threads", "2", "--max-inflight-bytes", str(128 * MIB),
    "--max-message-bytes", str(32 * MIB),
)  # fmt: skip


def test_the_largest_batches_are_answered_or_refused(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    is_whole = request.config.getoption("--whole")
    nbytes, settings = (GROUP_BYTES, SETTINGS) if is_whole else (512 * MIB, SMALL)
    save_networks(tmp_path)
    with (
        group(nbytes) as made,
        serve(*settings, "--networks", str(tmp_path), inside=inside(made)) as process,
    ):
        for name, (method, maker) in everything().items():
            if is_whole or name in QUICK:
                found = largest(process, method, maker())
                assert set(found.values()) <= {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
                assert process.process.poll() is None
        assert made.killed() == 0
        assert made.most() < nbytes
