"""Kernels look whether numbers are within their domains, and say no more than which rows are not.

The host is asked only then, for the error that it would give itself.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine
from lossd.errors import InvalidRequest
from lossd.losses import (
    LOSSES,
    Axes,
    Choices,
    Content,
    CudaText,
    Input,
    Interval,
    Loss,
    Shape,
)
from lossd.selftest._long_rows import CLASSES, parameters_for

pytestmark = pytest.mark.gpu

ROWS, COLUMNS = 40, 203
# An input with a domain, by the loss and the text that it is an input of.
CASES = [
    (loss, text, declared)
    for loss in LOSSES.values()
    if loss.shape
    in (Shape.POINTWISE, Shape.ROWWISE, Shape.REGIONWISE, Shape.VECTORS, Shape.SEQUENCE)
    for text in loss.cuda
    for declared in loss.inputs
    if declared.under(loss.complete(parameters_for(loss, text))).domain is not None
    and not (text.targets_are_classes and declared is loss.inputs[1])
]
OF_SEQUENCES = [case for case in CASES if case[0].shape is Shape.SEQUENCE]
names = [f"{loss.name}-{loss.cuda.index(text)}-{declared.name}" for loss, text, declared in CASES]
every_case = pytest.mark.parametrize(("loss", "text", "declared"), CASES, ids=names)


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Engine]]:
    """One on the device, one on the host."""
    backend = pytest.importorskip("lossd.backends.cupy")
    if not backend.probe():
        pytest.skip("no CUDA device")
    device, host = Engine(backend.CupyBackend()), Engine(NumpyBackend(threads=1))
    yield device, host
    device.close()
    host.close()


def job_of(loss: Any, text: Any, **changes: Any) -> Job:
    """A batch whose numbers are all within their domains."""
    rng = np.random.default_rng(3)
    given = loss.complete(parameters_for(loss, text))
    row: tuple[int, ...] = (CLASSES, COLUMNS // CLASSES)
    if not text.has_class_axis and loss.shape is not Shape.SEQUENCE:
        row = (COLUMNS,)
    inputs = {}
    for position, each in enumerate(loss.inputs):
        if each.content is Content.LENGTHS:
            continue
        domain = each.under(given).domain
        size = (ROWS, *row) if each.axes is not Axes.EXAMPLES else (ROWS,)
        numbers: Any = rng.uniform(0.1, 0.9, size) / COLUMNS
        if isinstance(domain, Choices):
            numbers = rng.choice(np.array(domain.numbers, float), size)
        elif domain is not None and domain.high == 0:
            numbers = np.log(numbers)
        if each.content is Content.INDICES and loss.shape is Shape.SEQUENCE:
            numbers = rng.integers(1, row[-1], (ROWS, 2))
        elif position == 1 and text.targets_are_classes:
            numbers = rng.integers(0, row[0], (ROWS, *row[1:]))
        inputs[each.name] = [numbers if numbers.dtype.kind == "i" else numbers.astype(np.float32)]
    return Job(loss=loss, parameters=parameters_for(loss, text), inputs=inputs, **changes)


def said(engine: Engine, job: Job) -> str:
    with pytest.raises(InvalidRequest) as raised:
        engine.run(job)
    return str(raised.value)


@every_case
def test_numbers_outside_are_refused_in_the_words_of_the_host(
    engines: Any, loss: Any, text: Any, declared: Any
) -> None:
    """Numbers below the smallest normal one too, which the device takes for 0."""
    device, host = engines
    domain = declared.under(loss.complete(parameters_for(loss, text))).domain
    wrong = [-7.5, np.nan, np.inf, -np.inf, *([] if isinstance(domain, Choices) else [-1e-40])]
    if domain == Choices((-1, 1)) or getattr(domain, "high", 0) == 0:
        wrong.append(1e-40)
    for number in wrong:
        job = job_of(loss, text, gradients=() if number == np.inf else None)
        job.inputs[declared.name][0].reshape(ROWS, -1)[ROWS - 3, -1] = number
        if not domain.outside(np.array([number]))[0]:
            device.run(job)
            continue
        found = said(device, job)
        assert found == said(host, job)
        assert declared.name in found


@every_case
def test_rows_that_do_not_count_may_hold_anything(
    engines: Any, loss: Any, text: Any, declared: Any
) -> None:
    job = job_of(loss, text, mask=np.arange(ROWS) != 4)
    job.inputs[declared.name][0][4] = -7.5
    found, expected = (engine.run(job) for engine in engines)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)


def test_inputs_with_a_domain_may_stay_on_the_device(engines: Any) -> None:
    device, host = engines
    stays = {}
    for loss, text, declared in CASES:
        if loss.shape not in (Shape.POINTWISE, Shape.ROWWISE, Shape.SEQUENCE):
            continue
        job = job_of(loss, text)
        assert not host.resident(job)
        stays[loss.name, declared.name] = declared.name in device.resident(job)
    assert stays
    assert all(stays.values()), stays


@pytest.mark.parametrize(("loss", "text", "declared"), OF_SEQUENCES, ids=lambda _: "")
def test_frames_that_a_sequence_does_not_have_are_not_looked_at_on_the_host(
    engines: Any, monkeypatch: pytest.MonkeyPatch, loss: Loss, text: CudaText, declared: Input
) -> None:
    device, host = engines
    job = job_of(loss, text)
    frames = job.inputs[declared.name][0]
    times = np.arange(ROWS) % frames.shape[1]
    lengths = next(each for each in loss.inputs if each.content is Content.LENGTHS)
    job = replace(job, inputs={**job.inputs, lengths.name: [times]})
    frames[np.arange(frames.shape[1]) >= times[:, None]] = 7.5
    expected = host.run(job).loss
    monkeypatch.setattr(Interval, "outside", None)
    assert device.run(job).loss == pytest.approx(expected)


def test_numbers_of_a_type_that_kernels_do_not_read_are_brought_to_the_host(engines: Any) -> None:
    device, _ = engines
    loss = LOSSES["squared_error"]
    inputs = {"predictions": [np.zeros((3, 5), np.float32)], "targets": [np.zeros((3, 5), int)]}
    job = Job(loss=loss, parameters={}, inputs=inputs)
    assert device.resident(job) == {"predictions"}
