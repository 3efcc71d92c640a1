"""Examples without a target: what the formula says, or nothing and a status."""

from typing import Any

import numpy as np
import pytest

from lossd.engine import Engine
from lossd.errors import InvalidTensor
from lossd.losses import Loss, Status
from lossd.reduction import NonfinitePolicy, Reduction
from tests.losses.case import Case, values
from tests.losses.compare import assert_same_bits
from tests.oracles import oracle_gradients, oracle_values
from tests.sampling import cases, members

EMPTY = 2


def _skipping(loss: Loss) -> list[Case]:
    """Cases that skip empty targets, with one such example unless they have class indices."""
    if loss.ignores is None:
        pytest.skip("it leaves no example out")
    found = []
    for case in cases(loss):
        choice = case.parameters.get("empty_target")
        if choice is None or choice.name != "SKIP":
            continue
        targets = case.inputs["targets"].copy()
        targets[EMPTY] = 0
        found.append(case.with_inputs(targets=targets))
    assert found
    return found


@pytest.mark.parametrize("reduction", Reduction)
def test_a_skipped_example_is_as_good_as_masked_and_has_a_status(
    engine: Engine, loss: Loss, reduction: Reduction
) -> None:
    for case in _skipping(loss):
        options: dict[str, Any] = {"reduction": reduction, "gradients": case.differentiable}
        result = engine.run(case.job(**options))
        masked = engine.run(case.job(mask=np.arange(case.count) != EMPTY, **options))
        assert (result.loss, result.loss_sum) == (masked.loss, masked.loss_sum)
        assert (result.example_count, result.ignored_count) == (case.count - 1, 1)
        assert result.weight_sum == masked.weight_sum == case.count - 1
        assert result.statuses.indices.tolist() == [EMPTY]
        assert result.statuses.numbers.tolist() == [Status.EMPTY_TARGET]
        assert not len(masked.statuses.indices)
        assert_same_bits(values(result), values(masked), case)
        for name, gradient in result.gradients.items():
            assert_same_bits(gradient, masked.gradients[name], case)
            assert not gradient[EMPTY].any()


def test_an_example_without_weight_has_no_status(engine: Engine, loss: Loss) -> None:
    for case in _skipping(loss):
        weights = (np.arange(case.count) != EMPTY).astype(float)
        assert not len(engine.run(case.job(weights=weights)).statuses.indices)


def test_what_is_not_finite_and_what_is_empty_are_told_apart(engine: Engine, loss: Loss) -> None:
    for case in _skipping(loss):
        predictions = case.inputs["predictions"].copy()
        predictions[[EMPTY, 4]] = np.nan
        for policy in (NonfinitePolicy.PROPAGATE, NonfinitePolicy.ZERO):
            result = engine.run(case.with_inputs(predictions=predictions).job(nonfinite=policy))
            assert result.statuses.indices.tolist() == [EMPTY, 4]
            assert result.statuses.numbers.tolist() == [Status.EMPTY_TARGET, Status.NONFINITE]
            assert result.nonfinite_examples.tolist() == [4]


def test_an_empty_target_that_is_no_number_is_refused_and_not_skipped(
    engine: Engine, loss: Loss
) -> None:
    for case in _skipping(loss):
        if case.inputs["targets"].dtype.kind != "f":
            continue
        targets = case.inputs["targets"].copy()
        targets[EMPTY].reshape(-1)[0] = -1
        with pytest.raises(InvalidTensor, match="targets"):
            engine.run(case.with_inputs(targets=targets).job())


def test_a_class_that_is_absent_has_no_part_in_the_mean(engine: Engine, loss: Loss) -> None:
    if loss.ignores is None:
        pytest.skip("it leaves no example out")
    for drawn in cases(loss, rows=3, interior=True):
        if drawn.inputs["predictions"].ndim != 3:
            continue
        targets = drawn.inputs["targets"].copy()
        targets[..., 1] = 0  # a class, or of class indices an element
        parameters = {**drawn.parameters, "empty_target": _skip(loss)}
        case = Case(loss, parameters, drawn.form, {**drawn.inputs, "targets": targets})
        result = engine.run(case.job(reduction=Reduction.NONE))
        np.testing.assert_allclose(values(result), oracle_values(case), rtol=1e-12)
        np.testing.assert_allclose(
            result.gradients["predictions"], oracle_gradients(case, "predictions"), rtol=1e-10
        )
        assert not len(result.statuses.indices)


def _skip(loss: Loss) -> Any:
    parameter = next(p for p in loss.parameters if p.name == "empty_target")
    return next(member for member in members(parameter) if member.name == "SKIP")
