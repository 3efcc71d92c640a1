"""Alignments at every margin: value and gradient keep their digits however sure a row is.

The answers are made of all paths of classes, one by one, in as many digits as margins of 1000 take.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import pytest

from lossd.engine import Engine
from lossd.losses import LOSSES, DistributionKind
from lossd.reduction import Reduction
from tests.losses.case import Array, Case, Form, values
from tests.losses.compare import assert_same_bits

CTC = LOSSES["ctc"]
MARGINS = (0, 0.1, 1, 5, 9, 12, 17, 25, 40, 88, 104, 300, 700, 745, 1000)
TOLERANCE: Mapping[np.dtype[Any], float] = {np.dtype(np.float32): 3e-6, np.dtype(np.float64): 1e-11}
# Of classes that are as good as each other in a frame, the slope is what differs between them.  It
# is a difference of shares of all but the best class, and where it is this far below them it has
# lost as many digits.
BESIDE = 0.1
# Ways that have this little of all alignments are not followed to the end, where others are wrong.
FAINT = 1e-60
DIGITS = 1000  # e^-1000 has 435 zeros, and the least of a product of two twice as many


@dataclass(frozen=True)
class Row:
    """The path of classes that is likely, the labels that are asked for, and how many classes."""

    path: tuple[int, ...]
    labels: tuple[int, ...]
    blank: int = 0
    classes: int = 3


ROWS = (
    Row((1,), (1,)),
    Row((0,), ()),
    Row((0, 0, 0), ()),
    Row((1,), ()),
    Row((1, 1), (1,)),
    Row((0, 1), (1,)),
    Row((1, 0), (1,), classes=2),
    Row((1, 0, 1), (1, 1)),
    Row((2, 0, 1, 0), (2, 1)),
    Row((1, 1, 2, 2), (1, 2)),
    Row((2, 2, 2), (1,)),
    Row((2, 0, 2, 0), (0, 1), blank=2),
    Row((2, 1, 1, 1), (1,), blank=2),
    # More labels than a state leads on to, which are all there is of the other classes.
    Row((1, 2, 3, 4), (1, 2, 3, 4), classes=5),
    Row((4, 3, 2, 1, 3), (4, 3, 2, 3), classes=6),
    Row((1, 2, 1, 2, 1), (1, 2, 1, 2, 1)),
    Row((3, 1, 4, 2), (1, 2, 4, 3), blank=0, classes=5),
)


def _logits(row: Row, margin: float, seed: int) -> Array:
    """The likely path is ahead by about the margin; some frames are as good with another class."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(-1, 1, (len(row.path), row.classes)) * min(margin, 1)
    scores[np.arange(len(row.path)), list(row.path)] += margin
    if seed % 2:
        scores[-1] += rng.uniform(0, margin, row.classes)
    return scores


def _collapsed(path: Sequence[int], blank: int) -> tuple[int, ...]:
    return tuple(
        now for now, before in zip(path, (None, *path), strict=False) if now not in (blank, before)
    )


@functools.cache
def _right_paths(row: Row) -> tuple[tuple[int, ...], ...]:
    paths = itertools.product(range(row.classes), repeat=len(row.path))
    return tuple(path for path in paths if _collapsed(path, row.blank) == row.labels)


def _expected(frames: Array, row: Row, kind: DistributionKind) -> tuple[float, Array]:
    """Value and gradient."""
    with mpmath.workdps(DIGITS):
        given = [[mpmath.mpf(float(x)) for x in frame] for frame in frames]
        weights = given
        if kind is not DistributionKind.PROBABILITIES:
            weights = [[mpmath.exp(x) for x in frame] for frame in given]
        if kind is DistributionKind.LOGITS:
            weights = [[x / mpmath.fsum(frame) for x in frame] for frame in weights]
        shares = mpmath.matrix(*frames.shape)
        for path in _right_paths(row):
            product = mpmath.fprod(weights[time][label] for time, label in enumerate(path))
            for time, label in enumerate(path):
                shares[time, label] += product
        total = mpmath.fsum(shares[0, label] for label in range(row.classes))
        derivatives = np.zeros(frames.shape)
        for time, label in np.ndindex(frames.shape):
            share = shares[time, label] / total
            if kind is DistributionKind.LOGITS:
                derivatives[time, label] = weights[time][label] - share
            elif kind is DistributionKind.PROBABILITIES:
                derivatives[time, label] = -share / weights[time][label]
            else:
                derivatives[time, label] = -share
        return float(-mpmath.log(total)), derivatives


def _case(rows: Sequence[tuple[Row, Array]], kind: DistributionKind) -> Case:
    """Rows of one blank and as many classes, of any lengths."""
    length = max(len(frames) for _, frames in rows)
    most = max(len(row.labels) for row, _ in rows)
    predictions = np.full((len(rows), length, rows[0][0].classes), np.nan, rows[0][1].dtype)
    targets = np.zeros((len(rows), most), int)
    for position, (row, frames) in enumerate(rows):
        predictions[position, : len(frames)] = frames
        targets[position, : len(row.labels)] = row.labels
    inputs = {
        "predictions": predictions,
        "targets": targets,
        "prediction_lengths": np.array([len(frames) for _, frames in rows]),
        "target_lengths": np.array([len(row.labels) for row, _ in rows]),
    }
    return Case(CTC, {"blank": rows[0][0].blank, "prediction_kind": kind}, Form.CLASSES, inputs)


def _assert_right(engine: Engine, row: Row, frames: Array, kind: DistributionKind) -> None:
    result = engine.run(_case([(row, frames)], kind).job(reduction=Reduction.NONE))
    value, derivatives = _expected(frames, row, kind)
    # Of probabilities that are given in a few digits, a loss near 0 has what these leave of it.
    noise = 0.0 if kind is DistributionKind.LOGITS else 1e-16 * frames.size
    tolerance, smallest = TOLERANCE[frames.dtype], float(np.finfo(frames.dtype).tiny)
    about = row, kind, frames.tolist()
    np.testing.assert_allclose(
        values(result)[0], value, rtol=tolerance, atol=smallest + noise, err_msg=str(about)
    )
    wrong = abs(result.gradients["predictions"][0].astype(np.float64) - derivatives)
    allowed = np.maximum(abs(derivatives), BESIDE * _besides(frames))
    smallest += FAINT * (value > 1e-4)
    assert (wrong <= tolerance * allowed + smallest).all(), (*about, wrong, derivatives)


def _besides(frames: Array) -> Array:
    """Returns the rest of each frame beside its best class, of logits or of their like."""
    others = np.sort(frames.astype(np.float64), axis=1)
    others -= others[:, -1:]
    found: Array = np.exp(others[:, :-1]).sum(axis=1, keepdims=True)
    return found


def _swept(row: Row, margins: Sequence[float] = MARGINS) -> Iterator[Array]:
    for position, margin in enumerate(margins):
        yield from (_logits(row, margin, position).astype(dtype) for dtype in TOLERANCE)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_rows_of_logits_are_right_at_every_margin(engine: Engine, row: Row) -> None:
    for frames in _swept(row, MARGINS if engine.backend.name == "numpy" else MARGINS[::5]):
        _assert_right(engine, row, frames, DistributionKind.LOGITS)


@pytest.mark.parametrize("row", ROWS[:8], ids=str)
def test_rows_of_probabilities_are_right_at_every_margin(engine: Engine, row: Row) -> None:
    for logits in _swept(
        row, (0, 1, 5, 9, 17, 40, 300)[:: 1 if engine.backend.name == "numpy" else 3]
    ):
        wide = logits.astype(np.float64)
        wide -= wide.max(axis=1, keepdims=True)
        shares = np.exp(wide)
        best = shares.argmax(axis=1)
        shares[np.arange(len(best)), best] = 0
        rest = shares.sum(axis=1, keepdims=True)
        logs = (wide - np.log1p(rest)).astype(logits.dtype)
        _assert_right(engine, row, logs, DistributionKind.LOG_PROBABILITIES)
        if (wide > -80).all():
            given = np.exp(logs.astype(np.float64)).astype(logits.dtype)
            _assert_right(engine, row, given, DistributionKind.PROBABILITIES)


def test_a_sure_row_of_one_frame_is_the_cross_entropy(engine: Engine) -> None:
    """log(1 + e^-40), of which e^-40 is all that is left."""
    small = 4.248354255291589e-18
    result = engine.run(
        _case(
            [(Row((1,), (1,), classes=2), np.array([[0.0, 40.0]]))], DistributionKind.LOGITS
        ).job()
    )
    assert result.loss == pytest.approx(small, rel=1e-12)
    np.testing.assert_allclose(result.gradients["predictions"], [[[small, -small]]], rtol=1e-12)


def test_log_probabilities_of_a_sure_row_count_all_ways(engine: Engine) -> None:
    """3e-19 is what another alignment adds, which the total of both would not show."""
    logs = np.array([[np.log(3e-19), -1e-18], [np.log(3e-19), -1e-18]])
    row = Row((1, 1), (1,), classes=2)
    result = engine.run(_case([(row, logs)], DistributionKind.LOG_PROBABILITIES).job())
    assert result.loss == pytest.approx(2e-18 - 6e-19, rel=1e-12)


def test_a_sure_row_has_the_same_bits_beside_others(engine: Engine) -> None:
    rows = [row for row in ROWS if row.blank == 0 and row.classes == 3]
    for kind in (DistributionKind.LOGITS, DistributionKind.LOG_PROBABILITIES):
        given = []
        for position, row in enumerate(rows * 3):
            frames = _logits(row, (40.0, 9.0, 1.0)[position // len(rows)], 2 * position)
            if kind is not DistributionKind.LOGITS:
                frames -= np.log(np.exp(frames).sum(axis=1, keepdims=True))
            given.append((row, frames))
        whole = engine.run(_case(given, kind).job(reduction=Reduction.NONE))
        for position, one in enumerate(given):
            alone = engine.run(_case([one], kind).job(reduction=Reduction.NONE))
            assert_same_bits(values(alone), values(whole)[position : position + 1], one)
            gradient = whole.gradients["predictions"][position, : len(one[1])]
            assert_same_bits(alone.gradients["predictions"][0], gradient, one)


def test_the_gradient_of_a_sure_row_may_be_scaled(engine: Engine) -> None:
    case = _case([(ROWS[7], _logits(ROWS[7], 40.0, 0))], DistributionKind.LOGITS)
    options: dict[str, Any] = {"reduction": Reduction.SUM}
    plain = engine.run(case.job(**options)).gradients["predictions"]
    scaled = engine.run(case.job(cotangent=np.array([-2.0]), **options)).gradients["predictions"]
    assert_same_bits(scaled, -2 * plain)
