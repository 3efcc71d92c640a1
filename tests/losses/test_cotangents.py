"""A cotangent of 0: nothing is taken of a gradient, also where there is none that is finite."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lossd.engine import Engine
from lossd.losses import LOSSES, Loss, Shape
from lossd.reduction import NonfinitePolicy, Reduction
from tests.losses.case import Case, values
from tests.losses.compare import assert_same_bits, assert_zero
from tests.sampling import ROWS, cases, coupled_cases, knows_others

POISONS = (np.nan, np.inf, -np.inf, 1e30)
BAD = 2  # the row whose cotangent is 0
OPPOSED = [loss for loss in LOSSES.values() if loss.shape is Shape.OPPOSED]


def _cases(loss: Loss) -> Iterator[Case]:
    return coupled_cases(loss) if loss.shape is Shape.COUPLED else cases(loss)


def _free(case: Case) -> list[str]:
    """The inputs in which any number is data."""
    declared = {i.name: i.under(case.loss.complete(case.parameters)) for i in case.loss.inputs}
    return [
        name
        for name, array in case.inputs.items()
        if array.dtype.kind == "f" and declared[name.partition("[")[0]].domain is None
    ]


def _poisoned(case: Case, rows: Any, poison: float) -> Case:
    spoilt = {name: case.inputs[name].copy() for name in _free(case)}
    for array in spoilt.values():
        array[rows] = poison
    return case.with_inputs(**spoilt)


def _assert_nothing(gradient: Any, about: Any) -> None:
    """0.0, and not -0.0."""
    for array in gradient if isinstance(gradient, list) else [gradient]:
        assert_same_bits(array, np.zeros_like(array), about)


def test_nothing_is_taken_of_any_gradient(
    engine: Engine,
    any_loss: Loss,
    whole: bool,  # noqa: FBT001
) -> None:
    """Each case meets every type and every poison; ``--whole`` has it meet every pair of them."""
    pairs = list(itertools.product((np.float16, np.float32, np.float64), POISONS))
    for number, drawn in enumerate(_cases(any_loss)):
        for dtype, poison in pairs if whole else pairs[number % 3 :: 3]:
            with np.errstate(over="ignore"):  # 1e30 is infinite in float16
                case = _poisoned(drawn, BAD, poison).astype(dtype)
            _assert_nothing_is_taken(engine, case, (dtype, poison))


def _assert_nothing_is_taken(engine: Engine, case: Case, pair: tuple[Any, float]) -> None:
    plain = engine.run(case.job(gradients=()))
    shape = () if plain.per_example is None else plain.per_example.shape
    is_wide = pair[0] == np.float64 or case.loss.shape in (Shape.COUPLED, Shape.TOKENS)
    for cotangent in (np.array(0.0), np.zeros(shape), np.array(1e-60)):
        if cotangent.any() and is_wide:
            continue  # in float64 it is not 0
        result = engine.run(case.job(gradients=case.derivatives, cotangent=cotangent))
        assert result.loss_sum == plain.loss_sum or np.isnan(plain.loss_sum)
        about = case, *pair, cotangent
        for name, gradient in result.gradients.items():
            if gradient.ndim:
                assert_zero(gradient, (*about, name))
            assert np.isfinite(gradient).all(), (*about, name)
        if plain.per_example is not None:
            assert_same_bits(values(result), values(plain), about)


def test_a_row_of_cotangent_zero_has_none(engine: Engine, any_loss: Loss) -> None:
    if not any_loss.shape.has_values or any_loss.shape in (Shape.COUPLED, Shape.OPPOSED):
        pytest.skip("its gradients are not of one row each")
    for case in cases(any_loss):
        if any_loss.shape is Shape.TOKENS and knows_others(case):
            continue
        cotangent = np.where(np.arange(ROWS) == BAD, 0.0, 1.5)
        wanted: dict[str, Any] = {"gradients": case.differentiable, "reduction": Reduction.SUM}
        clean = engine.run(case.job(cotangent=cotangent, **wanted))
        for poison in POISONS:
            poisoned = _poisoned(case, BAD, poison)
            plain = engine.run(poisoned.job(gradients=(), reduction=Reduction.SUM))
            for policy in (NonfinitePolicy.PROPAGATE, NonfinitePolicy.ZERO):
                result = engine.run(poisoned.job(cotangent=cotangent, nonfinite=policy, **wanted))
                is_lost = not np.isfinite(values(plain)[BAD])
                assert result.nonfinite_examples.tolist() == [BAD] * is_lost, (case, poison)
                if policy is NonfinitePolicy.PROPAGATE:
                    assert_same_bits(values(result), values(plain), (case, poison))
                for name, gradient in result.gradients.items():
                    _assert_nothing(gradient[BAD], (case, poison, name))
                    for row in set(range(ROWS)) - {BAD}:
                        expected = clean.gradients[name][row]
                        assert_same_bits(gradient[row], expected, (case, poison, name))


@pytest.mark.parametrize("opposed_loss", OPPOSED, ids=lambda loss: loss.name)
def test_a_score_whose_terms_all_have_cotangent_zero_has_none(
    engine: Engine, opposed_loss: Loss
) -> None:
    for case in cases(opposed_loss):
        if "AVERAGE" in str(case.parameters):
            continue  # whose mean is in the terms of all others
        first = next(iter(case.inputs))
        plain = engine.run(case.job(reduction=Reduction.NONE))
        cotangent = np.ones(len(values(plain)))
        cotangent[BAD] = 0
        for poison in POISONS:
            spoilt = case.inputs[first].copy()
            spoilt[BAD] = poison
            result = engine.run(
                case.with_inputs(**{first: spoilt}).job(
                    cotangent=cotangent, reduction=Reduction.SUM, gradients=tuple(case.inputs)
                )
            )
            for gradient in result.gradients.values():
                assert np.isfinite(gradient).all(), case
            _assert_nothing(result.gradients[first][BAD], case)


def test_an_anchor_of_cotangent_zero_gives_nobody_a_gradient(
    engine: Engine, coupled_loss: Loss
) -> None:
    """Where it is nobody else's key either."""
    for case in coupled_cases(coupled_loss):
        if case.first != "queries" or case.parameters.get("symmetric"):
            continue
        cotangent = np.where(np.arange(case.count) == BAD, 0.0, 1.5)
        wanted: dict[str, Any] = {"gradients": case.derivatives, "reduction": Reduction.SUM}
        clean = engine.run(case.job(cotangent=cotangent, **wanted))
        for poison in (np.nan, np.inf):
            queries = case.inputs["queries"].copy()
            queries[BAD] = poison
            result = engine.run(
                case.with_inputs(queries=queries).job(cotangent=cotangent, **wanted)
            )
            for name, gradient in result.gradients.items():
                assert_same_bits(gradient, clean.gradients[name], (case, poison, name))
