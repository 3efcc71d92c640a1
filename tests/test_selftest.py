"""The self-test reaches what it is there for."""

from typing import Any

import pytest

from lossd import selftest
from lossd.backends import _compiled
from lossd.backends import cupy as backend
from lossd.backends.numpy import NumpyBackend
from lossd.engine import Engine
from lossd.kernels import Kernel, _source, find_text
from lossd.kernels._launch import MOST_THREADS, SEGMENT, threads_of_row
from lossd.losses import LOSSES, Loss
from lossd.selftest._long_rows import COLUMNS, TOLERANCES, long_rows
from lossd.shapes import rules_of

OF_TWO_SIDES = [x for x in LOSSES.values() if x.cuda_of]
ON_HOST_TOO = [x for x in LOSSES.values() if x.cuda]
OF_CLASSES = [x for x in LOSSES.values() if any(text.has_class_axis for text in x.cuda)]
ON_DEVICE = [x for x in LOSSES.values() if x.cuda and not rules_of(x).on_host]


@pytest.mark.parametrize("loss", ON_DEVICE, ids=lambda x: x.name)
def test_long_rows_are_for_every_kernel_of_a_loss_in_every_type(loss: Loss) -> None:
    found = set()
    for rows in long_rows(loss):
        given = rows.job.inputs.values()
        classes = any(array.dtype.kind == "i" for (array,) in given)
        parameters = loss.complete(rows.job.parameters)
        text = find_text(loss, parameters, targets_are_classes=classes)
        assert text is not None
        found.add((loss.cuda.index(text), rows.dtype, rows.columns))

    assert len(found) == len(loss.cuda) * len(TOLERANCES) * len(COLUMNS)


@pytest.mark.parametrize("loss", OF_TWO_SIDES, ids=lambda x: x.name)
def test_long_rows_are_for_every_kernel_of_two_sides(loss: Loss) -> None:
    found = [(rows.job.parameters, rows.dtype, rows.columns) for rows in long_rows(loss)]
    assert len(found) == sum(map(len, loss.cuda_of.values())) * len(TOLERANCES) * len(COLUMNS)
    for parameters, _, _ in found:
        loss.complete(parameters)


def test_rows_fill_a_block_and_those_of_single_numbers_take_several() -> None:
    assert max(COLUMNS) > SEGMENT
    assert any(n <= SEGMENT and threads_of_row(n) == MOST_THREADS for n in COLUMNS)


@pytest.mark.parametrize("loss", OF_CLASSES, ids=lambda x: x.name)
def test_the_longest_rows_of_classes_take_several_blocks(loss: Loss) -> None:
    shapes = {rows.job.inputs["predictions"][0].shape for rows in long_rows(loss)}
    assert max(shape[2] for shape in shapes if len(shape) > 2) > SEGMENT


@pytest.mark.parametrize("loss", [*ON_HOST_TOO, *OF_TWO_SIDES], ids=lambda x: x.name)
def test_right_results_of_long_rows_are_finite_in_every_type(loss: Loss) -> None:
    """Infinities cannot be compared."""
    engine = Engine(NumpyBackend(1))
    faults = [r.fault(engine, engine) for r in long_rows(loss) if r.columns == min(COLUMNS)]
    engine.close()
    assert not any(faults)


# Losses of rows, of both sides and of sequences, whose kernels are found in other ways.
COMPILED = ("huber", "cross_entropy", "generator_loss", "ctc")


@pytest.mark.gpu
def test_every_kernel_is_compiled_before_the_first_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not (available := backend.probe()):
        pytest.skip(available.reason)
    made: list[str] = []
    module = _compiled._module

    def noted(cupy: Any, kernel: Kernel) -> Any:
        made.append(kernel.source)
        return module(cupy, kernel)

    monkeypatch.setattr(_compiled, "_module", noted)
    monkeypatch.setattr(selftest, "LOSSES", {name: LOSSES[name] for name in COMPILED})
    engine = Engine(backend.CupyBackend())
    try:
        found = selftest.run(engine)
        assert not next(found).fault
        ahead, loaded = list(made[:-1]), made[-1:]
        assert not [check for check in found if check.fault]
    finally:
        engine.close()
    loaded += made[len(ahead) + 1 :]
    assert len(ahead) == len(set(ahead))
    assert set(loaded) <= set(ahead)
    assert len(ahead) < 1.5 * len(loaded)


@pytest.mark.gpu
def test_a_sum_that_forgets_warps_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (available := backend.probe()):
        pytest.skip(available.reason)
    right, wrong = "distance = warps / 2;", "distance = warps / 4;"
    template = _source.read_template
    assert right in template("common.cuh")
    monkeypatch.setattr(_source, "read_template", lambda name: template(name).replace(right, wrong))
    monkeypatch.setattr(selftest, "LOSSES", {"huber": LOSSES["huber"]})
    engine = Engine(backend.CupyBackend())
    try:
        assert "loss of 3 rows of 2003 must be" in selftest.faults(engine)["huber"]
    finally:
        engine.close()
