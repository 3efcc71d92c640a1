"""Losses take the memory that they say they take."""

import contextlib
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.backends._host import NO_KERNELS, KernelSource, host_kernels
from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine
from lossd.errors import TooLarge
from lossd.losses import LOSSES, Loss, Shape, TokenAggregation
from lossd.losses._maths.divergences import DistillationDivergence, DistillationSupport
from lossd.losses._maths.policy_outputs import PolicyGradientOutput
from tests.drawn_networks import NETWORKS
from tests.losses.case import Case
from tests.sampling import cases

# Of Python's objects, whatever the size.
SMALL = 1 << 18
# Many short examples, and few long ones.
SIZES = {
    Shape.COUPLED: [(1500, 8), (200, 512)],
    Shape.SETWISE: [(300_000, 1), (1000, 300)],
    Shape.SEQUENCE: [(100, 100), (3, 500)],
    Shape.IMAGES: [(3, 8), (1, 8)],
    Shape.FEATURES: [(20_000, 20), (3, 60_000)],
}
USUAL = [(200_000, 2), (2, 300_000)]
# Losses that have a kernel for an axis of classes.
OF_CLASSES = [name for name, loss in LOSSES.items() if any(t.has_class_axis for t in loss.cuda)]
STATUS, FORGET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """One thread: each further one has a piece, which is the process's own."""
    made = Engine(NumpyBackend(1), NETWORKS)
    yield made
    made.close()


def choices(loss: Loss) -> tuple[Any, ...]:
    """All outputs that a loss may be asked for."""
    asked = [parameter for parameter in loss.parameters if parameter.name == "outputs"]
    return tuple(asked[0].choices or ()) if asked else ()


def peak_and_held(engine: Engine, job: Job) -> tuple[int, int]:
    """The bytes that were taken at the most, and those that were said before."""
    held: list[int] = []
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        engine.run(job, hold=held.append)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before, sum(held)


# What compares each example with each takes the square of their number.
SQUARED = {Shape.COUPLED}


class NeededError(Exception):
    """Ends a job before it takes anything."""


def needed(engine: Engine, loss: Loss, rows: int) -> tuple[int, int]:
    """The bytes that a batch is said to take, and its own."""
    case = next(cases(loss, rows=rows, length=32)).astype(np.float32)
    job = case.job(gradients=case.derivatives)
    held: list[int] = []

    def hold(nbytes: int) -> None:
        held.append(nbytes)
        raise NeededError

    with contextlib.suppress(NeededError):
        engine.run(job, hold=hold)
    return sum(held), sum(array.nbytes for several in job.inputs.values() for array in several)


def test_a_large_batch_takes_at_most_four_times_its_bytes(engine: Engine, any_loss: Loss) -> None:
    if any_loss.shape in SQUARED:
        pytest.skip("takes what the square of its examples takes")
    rows = 64 if any_loss.shape is Shape.IMAGES else 30_000
    (one, size), (two, twice) = (needed(engine, any_loss, n) for n in (rows, 2 * rows))
    assert (two - one) / (twice - size) <= 4


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pairs_of_one_label_take_four_times_their_bytes(
    engine: Engine, dtype: type[np.floating[Any]], share: float
) -> None:
    random = np.random.default_rng(0)

    def taken(rows: int) -> tuple[int, int, int]:
        scores = random.standard_normal(rows).astype(dtype)
        targets = (random.random(rows) < share).astype(dtype)
        inputs = {"predictions": [scores], "targets": [targets]}
        job = Job(loss=LOSSES["pairwise_auc"], parameters={}, inputs=inputs)
        return *peak_and_held(engine, job), scores.nbytes + targets.nbytes

    (one, held, size), (two, held_twice, twice) = taken(300_000), taken(600_000)
    assert two - one <= held_twice - held <= 4 * (twice - size)
    assert two <= held_twice + SMALL


@pytest.mark.parametrize("loss", [one for one in LOSSES.values() if one.shape is Shape.TOKENS])
def test_long_sequences_take_four_times_their_bytes(engine: Engine, loss: Loss) -> None:
    def held(length: int) -> tuple[int, int]:
        case = next(cases(loss, rows=2, length=length)).astype(np.float32)
        job = case.job(gradients=case.derivatives)
        own = sum(array.nbytes for several in job.inputs.values() for array in several)
        return peak_and_held(engine, job)[1], own

    (one, size), (two, twice) = held(100_000), held(200_000)
    assert two - one <= 4 * (twice - size)


@pytest.mark.parametrize("kernels", [NO_KERNELS, host_kernels()], ids=["numpy", "compiled"])
def test_halves_of_a_long_sequence_of_classes_take_no_float64_of_each(
    kernels: KernelSource,
) -> None:
    engine = Engine(NumpyBackend(1, kernels))

    def taken(length: int) -> tuple[int, int, int]:
        (case, *_) = cases(LOSSES["distillation"], rows=1, length=2)
        random = np.random.default_rng(0)
        both = random.standard_normal((2, 1, length, 4096)).astype(np.float16)
        inputs = {"predictions": both[0], "targets": both[1]}
        parameters = {**case.parameters, "aggregation": TokenAggregation.SUM}
        job = Case(case.loss, parameters, case.form, inputs).job()
        return *peak_and_held(engine, job), both[0].nbytes

    (one, held, size), (two, held_twice, twice) = taken(500), taken(1000)
    assert one <= held + SMALL
    assert two <= held_twice + SMALL
    assert held_twice - held <= 1.5 * (twice - size)  # which is the gradient


def test_ratios_that_are_sorted_are_said(engine: Engine) -> None:
    """Of a long sequence all are kept."""
    (case, *_) = cases(LOSSES["policy_gradient"], rows=2, length=300_000)
    outputs = [PolicyGradientOutput.RATIO_P50, PolicyGradientOutput.LARGEST_RATIO]
    asked = replace(case, parameters={**case.parameters, "outputs": outputs})
    job = asked.astype(np.float32).job()
    peak, held = peak_and_held(engine, job)
    assert peak <= held + SMALL


def variants(loss: Loss, rows: int, length: int) -> list[Case]:
    """The defaults, and some of what may be told beside them."""
    found = []
    for position, case in enumerate(cases(loss, rows=rows, length=length)):
        if position % 4 == 0:
            found.append(case.astype(np.float32))
        if len(found) == 2:
            break
    return found


def in_status(name: str) -> int:
    """A number of bytes that the system tells of the process."""
    (line,) = [x for x in STATUS.read_text().splitlines() if x.startswith(name)]
    return int(line.split()[1]) << 10


def resident_and_held(engine: Engine, job: Job) -> tuple[int, int]:
    """As ``peak_and_held``, with what kernels take."""
    held: list[int] = []
    FORGET_PEAK.write_text("5")
    before = in_status("VmRSS")
    engine.run(job, hold=held.append)
    return in_status("VmHWM") - before, sum(held)


@pytest.mark.skipif(not FORGET_PEAK.exists(), reason="the system tells no peak")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("positions", [1, 15, 16])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_kernel_of_many_classes_takes_no_more_than_it_says(
    name: str, positions: int, dtype: type[np.floating]
) -> None:
    engine = Engine(NumpyBackend(1, host_kernels()))
    classes = 200_000 // positions
    shares = np.full((1, positions, classes), 1 / classes, dtype)
    inputs = {"predictions": [shares], "targets": [shares.copy()]}
    job = Job(loss=LOSSES[name], parameters={"class_axis": -1}, inputs=inputs)
    peak, held = resident_and_held(engine, job)
    engine.close()
    assert peak <= held + (16 << 20)  # of what else the process does


@pytest.mark.parametrize("size", [0, 1], ids=["many short", "few long"])
def test_a_loss_takes_no_more_than_it_says(engine: Engine, any_loss: Loss, size: int) -> None:
    rows, length = SIZES.get(any_loss.shape, USUAL)[size]
    for case in variants(any_loss, rows, length):
        peak, held = peak_and_held(engine, case.job(gradients=case.derivatives))
        assert peak <= held + SMALL, f"{case} takes {peak} and says {held}"


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if choices(loss)])
def test_outputs_are_said(engine: Engine, name: str) -> None:
    loss = LOSSES[name]
    case = variants(loss, *SIZES.get(loss.shape, USUAL)[0])[0]
    job = replace(case, parameters={**case.parameters, "outputs": choices(loss)}).job()
    peak, held = peak_and_held(engine, job)
    _, without = peak_and_held(engine, replace(job, parameters=case.parameters))
    outputs = engine.run(job).outputs.values()
    assert len(outputs) == len(choices(loss))
    assert held - without >= sum(output.nbytes for output in outputs)
    assert peak <= held + SMALL


def test_gradients_of_sixteen_bits_are_said() -> None:
    """A kernel computes them in float64."""
    engine = Engine(NumpyBackend(1, host_kernels()))
    (case, *_) = cases(LOSSES["clipped_value"], rows=2, length=2_000_000)
    peak, held = peak_and_held(engine, case.astype(np.float16).job())
    engine.close()
    assert peak <= held + SMALL


def test_float64_takes_twice_as_much_and_says_so(engine: Engine) -> None:
    (case, *_) = cases(LOSSES["kl_divergence"], rows=2, length=600_000)
    peak, held = peak_and_held(engine, case.job())
    assert peak <= held + SMALL


@pytest.mark.parametrize("name", ["kl_divergence", "lovasz_softmax", "triplet"])
def test_rows_longer_than_a_piece_count_once_a_thread(name: str) -> None:
    engine = Engine(NumpyBackend(2), NETWORKS)
    (case, *_) = cases(LOSSES[name], rows=2, length=300_000)
    peak, held = peak_and_held(engine, case.astype(np.float32).job())
    engine.close()
    assert peak <= held + SMALL


@pytest.mark.parametrize("support", DistillationSupport)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_tokens_of_more_classes_than_a_piece_count_once_a_thread(
    dtype: type[np.floating[Any]], support: DistillationSupport
) -> None:
    engine = Engine(NumpyBackend(2))
    logs = np.full((3, 1, 300_000), -20, dtype)
    parameters = {
        "divergence": DistillationDivergence.JENSEN_SHANNON,
        "beta": 0.5,
        "support": support,
        "aggregation": TokenAggregation.SUM,
    }
    inputs = {"predictions": [logs], "targets": [logs.copy()]}
    job = Job(loss=LOSSES["distillation"], parameters=parameters, inputs=inputs)
    peak, held = peak_and_held(engine, job)
    engine.close()
    assert peak <= held + SMALL


@pytest.mark.parametrize("name", ["pairwise_auc", "lovasz_hinge", "generator_loss", "info_nce"])
def test_it_says_so_before_it_takes_anything(engine: Engine, name: str) -> None:
    rows, length = SIZES.get(LOSSES[name].shape, USUAL)[0]
    case = variants(LOSSES[name], rows, length)[0]

    def refuse(needed: int) -> None:
        raise TooLarge(f"bytes must be at most 1, got {needed}")

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        with pytest.raises(TooLarge):
            engine.run(case.job(), hold=refuse)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 1 << 18


def test_a_style_takes_no_more_than_its_maps(engine: Engine) -> None:
    """The Gram matrices of 3000 channels of one place would have 9 million numbers each."""
    random = np.random.default_rng(0)
    maps = {
        n: [random.standard_normal((2, 3000, 1), np.float32)] for n in ("predictions", "targets")
    }
    job = Job(loss=LOSSES["feature_matching"], parameters={"style_weight": 1.0}, inputs=maps)
    peak, _ = peak_and_held(engine, job)
    assert peak < 1 << 20


@pytest.mark.parametrize(("channels", "places"), [(5, 2), (2, 5), (40, 1), (9, 9)])
def test_a_style_is_that_of_the_gram_matrices(engine: Engine, channels: int, places: int) -> None:
    random = np.random.default_rng(channels)
    first, second = random.standard_normal((2, 3, channels, places))
    job = Job(
        loss=LOSSES["feature_matching"],
        parameters={"style_weight": 1.0},
        inputs={"predictions": [first], "targets": [second]},
        gradients=("predictions", "targets"),
    )
    found = engine.run(job)
    count = channels * places
    exact = [m.astype(np.longdouble) for m in (first, second)]
    apart = (exact[0] @ exact[0].swapaxes(1, 2) - exact[1] @ exact[1].swapaxes(1, 2)) / count
    plain = exact[0] - exact[1]
    values = (plain**2).sum(axis=(1, 2)) / count + (apart**2).sum(axis=(1, 2))
    assert found.per_example is not None
    np.testing.assert_allclose(found.per_example, values.astype(float), rtol=1e-13)
    for name, maps, sign in (("predictions", exact[0], 1), ("targets", exact[1], -1)):
        derivatives = sign * (2 * plain + 4 * apart @ maps) / count / 3
        np.testing.assert_allclose(found.gradients[name], derivatives.astype(float), rtol=1e-11)


def test_a_style_that_takes_too_long_is_refused(engine: Engine) -> None:
    maps = {n: [np.zeros((1, 4097, 4096), np.float32)] for n in ("predictions", "targets")}
    job = Job(loss=LOSSES["feature_matching"], parameters={"style_weight": 1.0}, inputs=maps)
    with pytest.raises(TooLarge, match=r"must have maps .* got 4097 and 4096"):
        engine.run(job)
