"""Every shape of loss keeps its promises to whoever asks, and to every backend."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.backends import Body, Compute
from lossd.backends.numpy import NumpyBackend
from lossd.batch import Batch, Given, Layout
from lossd.engine import Engine, Result
from lossd.losses import LOSSES, Loss, Shape
from lossd.reduction import NonfinitePolicy, Reduction
from lossd.shapes import SHAPES, ShapeRules, lay_out, rules_of
from lossd.shapes._by_example import ByExample, ever_fewer_rows
from lossd.shapes._whole_batch import WholeBatch
from lossd.shapes.opposed import OpposedShape
from lossd.shapes.tokens import TokensShape
from tests.drawn_networks import NETWORKS
from tests.losses.case import Array, Case
from tests.losses.compare import DTYPES, assert_same_bits
from tests.sampling import cases, coupled_cases, laid_out, plain

LARGE = {Shape.IMAGES: (9, 4), Shape.SEQUENCE: (40, 30), Shape.FEATURES: (3000, 50)}


def _cases(loss: Loss) -> Iterator[Case]:
    return coupled_cases(loss) if loss.shape is Shape.COUPLED else cases(loss)


def _assert_same(found: Result, expected: Result, about: Any) -> None:
    assert (found.loss_sum, found.weight_sum) == (expected.loss_sum, expected.weight_sum), about
    assert found.nonfinite_examples.tolist() == expected.nonfinite_examples.tolist(), about
    for name, gradient in expected.gradients.items():
        assert_same_bits(found.gradients[name], gradient, (about, name))
    if expected.per_example is not None and found.per_example is not None:
        assert_same_bits(found.per_example, expected.per_example, about)


def test_every_shape_has_its_rules() -> None:
    assert set(SHAPES) == set(Shape)
    assert all(isinstance(rules, ShapeRules) for rules in SHAPES.values())
    kinds = ByExample | WholeBatch | TokensShape | OpposedShape
    assert all(isinstance(rules, kinds) for rules in SHAPES.values())


# ------------------------------------------------------------------ layouts


@dataclass(frozen=True)
class Header:
    """Returns what the header of a tensor says: no number is in it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _laid_out(case: Case, arrays: Any) -> Layout:
    parameters = case.loss.complete(case.parameters)
    return rules_of(case.loss).lay_out(Given(case.loss, arrays, parameters, NETWORKS))


def test_a_layout_follows_from_the_header_of_a_request(any_loss: Loss) -> None:
    for case in _cases(any_loss):
        headers = {name: Header(a.shape, a.dtype) for name, a in case.inputs.items()}
        assert _laid_out(case, headers) == _laid_out(case, case.inputs), case


def test_what_was_laid_out_goes_back_to_where_it_came_from(any_loss: Loss) -> None:
    for case in _cases(any_loss):
        batch = laid_out(case.job(), NETWORKS)
        for operand in batch.operands:
            given = case.inputs.get(operand.name)
            if given is not None and not operand.is_classes:
                np.testing.assert_array_equal(operand.slot.as_given(operand.rows), given)


def test_every_input_has_a_pattern(any_loss: Loss) -> None:
    for declared in any_loss.inputs:
        patterns = rules_of(any_loss).patterns(any_loss, declared)
        assert patterns
        assert all(pattern.startswith("(") for pattern in patterns)


# ------------------------------------------------------------------ pieces


class OfSeveralBlocks(NumpyBackend):
    """A backend that takes more at a time, and no part of a row, as one on a device does."""

    threads = 1
    in_cache = False

    def over_rows(self, batch: Batch, body: Body) -> Compute:
        return replace(super().over_rows(batch, body), piece_elements=1 << 20)


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Engine]]:
    made = Engine(NumpyBackend(2), NETWORKS), Engine(OfSeveralBlocks(1), NETWORKS)
    yield made
    for engine in made:
        engine.close()


def test_a_backend_takes_as_many_blocks_at_a_time_as_it_likes(
    engines: tuple[Engine, Engine], any_loss: Loss
) -> None:
    if isinstance(rules_of(any_loss), WholeBatch):
        pytest.skip("it is not cut")
    rows, length = LARGE.get(any_loss.shape, (3001, 300))
    case = plain(any_loss, rows=rows, length=length).astype(np.float32)
    rng = np.random.default_rng(0)
    examples = lay_out(case.job(), NETWORKS).layout.rows
    options: dict[str, Any] = {
        "mask": rng.random(examples) < 0.9,
        "weights": rng.uniform(0, 2, examples),
        "cotangent": rng.normal(size=examples),
        "gradients": case.differentiable,
    }
    for nonfinite in (NonfinitePolicy.PROPAGATE, NonfinitePolicy.ZERO):
        job = case.job(nonfinite=nonfinite, **options)
        one, other = (engine.run(job) for engine in engines)
        _assert_same(other, one, case)


@given(
    rows=st.integers(0, 5000),
    threads=st.integers(1, 9),
    block=st.integers(1, 300),
    blocks=st.integers(1, 40),
)
def test_rows_are_cut_into_whole_blocks_and_towards_the_end_into_fewer(
    rows: int, threads: int, block: int, blocks: int
) -> None:
    cuts = [cut.rows for cut in ever_fewer_rows(rows, threads, block, blocks)]
    assert [row for cut in cuts for row in range(cut.start, cut.stop)] == list(range(rows))
    sizes = [cut.stop - cut.start for cut in cuts]
    assert all(size % block == 0 for size in sizes[:-1])
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= block * blocks for size in sizes)
    assert all(size == block for size in sizes[-threads:-1])


# ------------------------------------------------------------------ whole batches

WHOLE = [loss for loss in LOSSES.values() if isinstance(rules_of(loss), WholeBatch)]


@pytest.mark.parametrize("loss", WHOLE, ids=lambda loss: loss.name)
def test_a_masked_example_of_a_whole_batch_is_as_if_it_had_never_been_sent(
    engine: Engine, loss: Loss
) -> None:
    for drawn in _cases(loss):
        for dtype in DTYPES:
            case = drawn.astype(dtype)
            parts = _parts(case)
            count = max(part.stop for part in parts.values())
            kept = np.random.default_rng(1).random(count) < 0.7
            options: dict[str, Any] = {"gradients": case.differentiable}
            masked = engine.run(case.job(mask=kept, **options))
            rows = {name: kept[part] for name, part in parts.items()}
            alone = engine.run(
                case.with_inputs(**{n: case.inputs[n][rows[n]] for n in rows}).job(**options)
            )
            assert masked.loss == pytest.approx(alone.loss, rel=1e-12, nan_ok=True), case
            for name in case.differentiable:
                found = masked.gradients[name]
                if name in rows:
                    assert not np.any(found[~rows[name]] != 0), case
                    found = found[rows[name]]
                assert_same_bits(found, alone.gradients[name], (case, name))


def _parts(case: Case) -> dict[str, slice]:
    """The examples of each input; those that all examples share have none."""
    batch: Batch = laid_out(case.job())
    of_all = tuple(slice(0, batch.rows) for _ in batch.operands)
    parts = zip(batch.operands, batch.parts or of_all, strict=True)
    return {o.name: part for o, part in parts if o.slot.is_by_example}


@pytest.mark.parametrize("loss", WHOLE, ids=lambda loss: loss.name)
@pytest.mark.parametrize("factor", [-2.0, 0.5])
def test_the_gradients_of_a_whole_batch_have_its_scales_in_them(
    engine: Engine, loss: Loss, factor: float
) -> None:
    """By a power of 2, so that nothing is rounded."""
    for case in _cases(loss):
        wanted: dict[str, Any] = {"gradients": case.derivatives, "reduction": Reduction.MEAN}
        plainly = engine.run(case.job(**wanted))
        scaled = engine.run(case.job(cotangent=np.asarray(factor), **wanted))
        for name, gradient in plainly.gradients.items():
            np.testing.assert_array_equal(
                np.asarray(scaled.gradients[name]), factor * np.asarray(gradient), str(case)
            )


def test_values_that_are_lost_take_the_gradients_of_a_set_with_them(engine: Engine) -> None:
    scores: Array = np.array([1e300, -1e300, 0.0])
    case = plain(LOSSES["pairwise_auc"], rows=3, length=1).with_inputs(
        predictions=scores, targets=np.array([0, 1, 1])
    )
    zeroed = engine.run(case.job(nonfinite=NonfinitePolicy.ZERO))

    assert zeroed.loss == 0
    assert zeroed.status is not None
    assert not zeroed.gradients["predictions"].any()
