"""The benchmarks draw what every loss takes, and compare it with what computes the same."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine
from lossd.losses import LOSSES

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = ("compute", "contenders", "in_pytorch")


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The modules of benchmarks/compute.py, which are in no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        sys.modules.pop(name, None)


def test_every_loss_has_inputs_and_every_peer_its_value(benchmarks: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    engine = Engine(NumpyBackend(1))
    compared = set()
    for case in benchmarks["compute"].cases(None, quick=True):
        drawn = case.inputs()
        inputs = {name: [array] for name, array in drawn.items()}
        job = Job(loss=LOSSES[case.loss], parameters=dict(case.parameters), inputs=inputs)
        found = engine.run(job).loss
        peer = benchmarks["in_pytorch"].function(case.label)
        if peer is not None:
            with torch.no_grad():
                wanted = float(peer(*map(torch.from_numpy, drawn.values())))
            assert found == pytest.approx(wanted, rel=1e-4), case.label
            compared.add(case.label)
    engine.close()

    assert compared >= benchmarks["in_pytorch"].COMPOSED.keys()
