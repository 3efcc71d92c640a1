"""The page of the client says which losses do not take all arguments of a call."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from lossd.engine import Engine
from lossd.errors import InvalidRequest, InvalidTensor
from lossd.losses import LOSSES
from lossd.reduction import Reduction
from tests.sampling import cases

PAGE = Path(__file__).resolve().parents[2] / "docs/client.md"


def refused(engine: Engine, name: str) -> set[str]:
    """Returns the arguments that a loss refuses under some of its parameters."""
    found = set()
    for case in itertools.islice(cases(LOSSES[name]), 30):
        plain = engine.run(case.job()).per_example
        one_each = np.ones(case.count if plain is None else plain.shape)
        for options in (
            {"reduction": Reduction.NONE},
            {"reduction": Reduction.SUM},
            {"reduction": Reduction.BATCH_MEAN},
            {"normalizer": 3.0},
            {"weights": one_each},
            {"mask": one_each > 0},
            {"cotangent": one_each},
        ):
            try:
                engine.run(case.job(**options))
            except (InvalidRequest, InvalidTensor):
                found |= set(options)
    return found


@pytest.mark.parametrize("engine", ["numpy-2"], indirect=True)
def test_it_names_every_loss_that_does_not_take_all_arguments(engine: Engine) -> None:
    text = PAGE.read_text()
    sets, sums = (
        re.search(rf"^{start}.*", text, re.MULTILINE)[0]  # type: ignore[index]
        for start in ("Losses of whole sets", "Losses that add two means")
    )
    said: dict[str, set[str]] = {}
    for line, arguments in (
        (sets, {"reduction", "cotangent", "normalizer"}),
        (sums, {"normalizer"}),
    ):
        for message in re.findall(r"`([A-Z]\w+)`", line):
            said[message] = arguments

    found = {loss.message: refused(engine, name) for name, loss in LOSSES.items()}

    assert {message: arguments for message, arguments in found.items() if arguments} == said
