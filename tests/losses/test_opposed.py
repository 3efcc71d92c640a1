"""Losses of two sides: the mean of either, and what goes through the mean of the other."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lossd.engine import Engine, Result
from lossd.errors import InvalidRequest, InvalidTensor
from lossd.losses import LOSSES, Loss, Shape, Sides, Status
from lossd.reduction import NonfinitePolicy, Reduction
from tests.losses.case import Case, total, values
from tests.losses.compare import DTYPES, Array, assert_close, assert_same_bits, assert_zero
from tests.losses.test_values import test_hand_worked_examples_hold  # noqa: F401 - of these here
from tests.oracles import oracle_gradients, oracle_values
from tests.sampling import cases, plain

OPPOSED = [loss for loss in LOSSES.values() if loss.shape is Shape.OPPOSED]
SIZES = (0.0, 1.0, -1.0, 1e-8, 17.0, -37.0, 80.0, -700.0, 1e15)


@pytest.fixture(params=OPPOSED, ids=lambda loss: loss.name)
def loss(request: pytest.FixtureRequest) -> Loss:
    """Here it is of two sides."""
    found: Loss = request.param
    return found


def _sides(case: Case) -> Sides:
    assert case.loss.sides is not None
    return case.loss.sides(**case.loss.complete(case.parameters))


def _examples(case: Case) -> int:
    counts = [len(array) for array in case.inputs.values()]
    return sum(counts) if _sides(case) is Sides.BOTH else counts[0]


def _parts(case: Case) -> dict[str, slice]:
    if _sides(case) is not Sides.BOTH:
        return dict.fromkeys(case.inputs, slice(None))
    start = len(case.inputs["real"])
    return {"real": slice(start), "fake": slice(start, None)}


def _run(engine: Engine, case: Case, **options: Any) -> Result:
    return engine.run(case.job(gradients=tuple(case.inputs), **options))


def _weighted(case: Case) -> Array:
    return np.linspace(0.25, 2, _examples(case))


def test_values_and_gradients_equal_the_formula(engine: Engine, loss: Loss) -> None:
    for dtype in DTYPES:
        computed = np.float64 if dtype == np.float64 else np.float32
        for drawn in cases(loss, rows=3, length=2):
            case = Case(loss, drawn.parameters, drawn.form, drawn.inputs)
            rounded = {name: array.astype(dtype) for name, array in case.inputs.items()}
            case = case.with_inputs(**rounded)
            for weights in (None, _weighted(case)):
                result = _run(engine, case, weights=weights)
                expected = oracle_values(case, weights)
                assert_close(np.array([total(result)]), expected, computed, case)
                for name, gradient in result.gradients.items():
                    assert gradient.dtype == dtype
                    derivatives = oracle_gradients(case, name, weights)
                    assert_close(gradient, derivatives, computed, (case, name))


def test_scores_of_every_size_are_right(engine: Engine, loss: Loss) -> None:
    for drawn in cases(loss, rows=len(SIZES), length=1):
        mixed = {n: np.resize(SIZES, a.shape) for n, a in drawn.inputs.items()}
        case = drawn.with_inputs(**mixed)
        if _sides(case) is Sides.BOTH and "AVERAGE" in str(case.parameters):
            continue  # their mean is that of the largest
        result = _run(engine, case)
        assert total(result) == pytest.approx(oracle_values(case)[0], rel=1e-13)
        for name, gradient in result.gradients.items():
            expected = oracle_gradients(case, name)
            kinks = abs(np.abs(case.inputs[name]) - 1) < 1e-9
            np.testing.assert_allclose(
                gradient[~kinks], expected[~kinks], rtol=1e-12, atol=1e-200, err_msg=str(case)
            )


def test_a_confident_difference_keeps_its_digits_in_float32(engine: Engine, loss: Loss) -> None:
    """Rounded to float32, a difference of 80 would be off by more than its cost may be."""
    gaps = np.array([[0.3], [9.7], [37.1], [80.3], [-55.9]], np.float32)
    for drawn in cases(loss, rows=len(gaps), length=1):
        if "RELATIVISTIC" not in str(drawn.parameters):
            continue
        first, second = drawn.inputs
        given = {first: gaps, second: np.full_like(gaps, np.float32(-1.7) / 3)}
        case = drawn.with_inputs(**given)
        result = _run(engine, case, reduction=Reduction.SUM)
        wide = case.with_inputs(**{name: a.astype(np.float64) for name, a in given.items()})
        expected = _run(engine, wide, reduction=Reduction.SUM)
        np.testing.assert_allclose(values(result), values(expected), rtol=2e-6)
        if _sides(case) is Sides.PAIRS:
            for name, gradient in result.gradients.items():
                np.testing.assert_allclose(gradient, expected.gradients[name], rtol=2e-6)


def test_an_example_longer_than_a_window_ends_where_it_ends(
    engine: Engine, loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lossd.shapes._scores.WINDOW_ELEMENTS", 8)
    for drawn in cases(loss, rows=2, length=13):
        # What follows in memory is no score of theirs.
        given = {n: np.vstack([a, np.full((9, 13), 1e3)])[:2] for n, a in drawn.inputs.items()}
        case = drawn.with_inputs(**given)
        result = _run(engine, case)
        assert total(result) == pytest.approx(oracle_values(case)[0], rel=1e-13)
        for name, gradient in result.gradients.items():
            assert_close(gradient, oracle_gradients(case, name), np.float64, (case, name))


def test_sides_may_have_different_types(engine: Engine, loss: Loss) -> None:
    for drawn in cases(loss, rows=5, length=3):
        if len(drawn.inputs) < 2:
            continue
        types = (np.float16, np.float32)
        for chosen in (types, types[::-1]):
            given = {n: a.astype(t) for (n, a), t in zip(drawn.inputs.items(), chosen, strict=True)}
            result = _run(engine, drawn.with_inputs(**given))
            wide = {name: array.astype(np.float64) for name, array in given.items()}
            expected = _run(engine, drawn.with_inputs(**wide))
            for name, gradient in result.gradients.items():
                assert gradient.dtype == given[name].dtype
                assert_close(gradient, expected.gradients[name], np.float32, (drawn, name))


def test_each_gradient_may_be_asked_for_alone(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        both = _run(engine, case)
        for name, wanted in both.gradients.items():
            alone = engine.run(case.job(gradients=(name,)))
            assert_same_bits(alone.gradients[name], wanted, (case, name))
            assert alone.loss == both.loss


def test_either_side_has_a_mean_of_its_own(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        weights = _weighted(case)
        kept = np.arange(len(weights)) % 3 != 1
        alone = _run(engine, case, reduction=Reduction.NONE, weights=weights, mask=kept)
        assert values(alone).shape == weights.shape
        parts = list(dict.fromkeys(map(str, _parts(case).values())))
        pieces = [p for p in _parts(case).values() if str(p) in parts][: len(parts)]
        for reduction, counted in (
            (Reduction.MEAN, weights * kept),
            (Reduction.BATCH_MEAN, kept * 1.0),
            (Reduction.SUM, None),
        ):
            result = _run(engine, case, reduction=reduction, weights=weights, mask=kept)
            terms = weights * kept * values(alone)
            expected = sum(
                terms[p].sum() / (1 if counted is None else counted[p].sum()) for p in pieces
            )
            assert total(result) == pytest.approx(expected, rel=1e-12), (case, reduction)
            assert result.weight_sum == pytest.approx((weights * kept).sum())
            assert result.example_count == kept.sum()
            assert result.ignored_count == (~kept).sum()


def test_what_is_ignored_or_of_weight_zero_may_hold_anything(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        keep = np.ones(_examples(case), bool)
        keep[[0, -1]] = False
        for silence in ({"mask": keep}, {"weights": keep * 1.0}):
            clean = _run(engine, case, **silence)
            for poison in (np.nan, np.inf, -np.inf):
                spoilt = {}
                for name, part in _parts(case).items():
                    spoilt[name] = np.where(keep[part][:, None], case.inputs[name], poison)
                result = _run(engine, case.with_inputs(**spoilt), **silence)
                assert result.loss == clean.loss, case
                assert_same_bits(values(result), values(clean), case)
                assert not len(result.nonfinite_examples)
                for name, gradient in result.gradients.items():
                    assert_same_bits(gradient, clean.gradients[name], (case, name))
                    assert_zero(gradient[~keep[_parts(case)[name]]])


def test_a_cotangent_scales_the_terms_and_not_the_loss(engine: Engine, loss: Loss) -> None:
    """With one number for each example, the gradient is that of the weighted sum."""
    for case in cases(loss, rows=3, length=2):
        plain_result = _run(engine, case, reduction=Reduction.SUM)
        cotangent = np.linspace(-2, 3, _examples(case))
        result = _run(engine, case, reduction=Reduction.SUM, cotangent=cotangent)
        assert result.loss == plain_result.loss
        for name, gradient in result.gradients.items():
            expected = _central_differences(engine, case, name, cotangent)
            np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8, err_msg=str(case))
        doubled = _run(engine, case, reduction=Reduction.SUM, cotangent=np.array(-2.0))
        for name, gradient in doubled.gradients.items():
            np.testing.assert_allclose(gradient, -2 * plain_result.gradients[name], rtol=1e-14)


def _central_differences(engine: Engine, case: Case, name: str, cotangent: Array) -> Array:
    derivatives = np.empty_like(case.inputs[name])
    for place in np.ndindex(derivatives.shape):
        ends = []
        for way in (1e-5, -1e-5):
            moved = case.inputs[name].copy()
            moved[place] += way
            result = _run(engine, case.with_inputs(**{name: moved}), reduction=Reduction.NONE)
            ends.append((cotangent * values(result)).sum())
        derivatives[place] = (ends[0] - ends[1]) / 2e-5
    return derivatives


def test_no_mean_is_held_constant(engine: Engine, loss: Loss) -> None:
    """Scores count by their differences only, so all slopes together are 0."""
    averaged = [case for case in cases(loss) if "AVERAGE" in str(case.parameters)]
    assert averaged
    for case in averaged:
        result = _run(engine, case, weights=_weighted(case))
        derivatives = [gradient.sum() for gradient in result.gradients.values()]
        assert abs(derivatives[0]) > 1e-3
        assert sum(derivatives) == pytest.approx(0, abs=1e-15)


def test_the_size_of_all_weights_means_nothing(engine: Engine, loss: Loss) -> None:
    """Also where the weights of all elements add up to more than the largest number."""
    for case in cases(loss, rows=3, length=5):
        weights = _weighted(case)
        result, expected = (
            _run(engine, case, weights=found) for found in (weights * 2.0**1020, weights)
        )
        assert total(result) == pytest.approx(total(expected), rel=1e-13)
        for name, gradient in result.gradients.items():
            assert_close(gradient, expected.gradients[name], np.float64, (case, name))


def test_a_side_without_examples(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        if _sides(case) is not Sides.BOTH:
            continue
        for name in case.inputs:
            result = _run(engine, case.with_inputs(**{name: np.zeros((0, 5))}))
            if "AVERAGE" in str(case.parameters):
                assert result.loss == 0
                assert set(result.statuses.numbers.tolist()) == {Status.UNDEFINED}
                for gradient in result.gradients.values():
                    assert_zero(gradient)
            else:
                assert total(result) == pytest.approx(values(result).mean(), rel=1e-13)
        empty = case.with_inputs(**dict.fromkeys(case.inputs, np.zeros((0, 5))))
        assert _run(engine, empty).loss == 0


def test_what_is_not_finite_is_seen(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        name = loss.inputs[0].name
        scores = case.inputs[name].copy()
        scores[1, 2] = np.nan
        spoilt = case.with_inputs(**{name: scores})
        row = 1 + (_parts(case)[name].start or 0)
        shown = _run(engine, spoilt)
        assert row in shown.nonfinite_examples
        assert np.isnan(total(shown))
        zeroed = _run(engine, spoilt, nonfinite=NonfinitePolicy.ZERO)
        assert np.isfinite(total(zeroed))
        assert_zero(zeroed.gradients[name][1])
        with pytest.raises(InvalidRequest, match="must have a finite"):
            _run(engine, spoilt, nonfinite=NonfinitePolicy.ERROR)


def test_a_normalizer_cannot_stand_for_two_divisors(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        if _sides(case) is Sides.BOTH:
            with pytest.raises(InvalidRequest, match="normalizer must be unset for"):
                _run(engine, case, normalizer=2.0)
        else:
            _run(engine, case, normalizer=2.0)


def test_inputs_that_the_objective_does_not_know_are_refused(engine: Engine, loss: Loss) -> None:
    for case in cases(loss):
        if _sides(case) is Sides.FAKE:
            with pytest.raises(InvalidTensor, match="real must be left out"):
                _run(engine, case.with_inputs(real=np.zeros((2, 5))))
            continue
        for name in case.inputs:
            others = {n: a for n, a in case.inputs.items() if n != name}
            with pytest.raises(InvalidTensor, match=f"{name} must be given .*, got nothing"):
                _run(engine, Case(loss, case.parameters, case.form, others))
        wrong = case.with_inputs(fake=np.zeros((7, 4)))
        with pytest.raises(InvalidTensor, match="must have"):
            _run(engine, wrong)


def _shaped(case: Case, shape: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    for name, array in case.inputs.items():
        yield name, array.reshape(len(array), *shape)


def test_patches_are_averaged_within_an_example(engine: Engine, loss: Loss) -> None:
    flat = plain(loss, length=6)
    expected = _run(engine, flat)
    result = _run(engine, flat.with_inputs(**dict(_shaped(flat, (1, 2, 3)))))
    assert result.loss == expected.loss
    assert_same_bits(values(result), values(expected))
    for name, gradient in result.gradients.items():
        assert gradient.shape[1:] == (1, 2, 3)
        assert_same_bits(gradient.reshape(-1, 6), expected.gradients[name])


@pytest.mark.parametrize(("first", "second"), [("f2", "f4"), ("f4", "f2"), ("f2", "f8")])
def test_what_only_rounding_makes_infinite_is_seen_in_pairs(
    engine: Engine, loss: Loss, first: str, second: str
) -> None:
    """A gradient of 1e6 is a number of float32, but none of float16."""
    for drawn in cases(loss, rows=2, length=3):
        if _sides(drawn) is not Sides.PAIRS:
            continue
        types = zip(drawn.inputs, (first, second), strict=True)
        case = drawn.with_inputs(**{name: np.zeros((2, 3), kind) for name, kind in types})
        given: dict[str, Any] = {"reduction": Reduction.SUM, "cotangent": np.array([1e7, 1.0])}
        sound = _run(engine, case, reduction=Reduction.SUM)
        found = _run(engine, case, **given)
        assert found.nonfinite_examples.tolist() == [0]
        assert any(np.isinf(gradient[0]).all() for gradient in found.gradients.values())
        given["nonfinite"] = NonfinitePolicy.ZERO
        for per_example in (True, False):
            zeroed = _run(engine, case, per_example=per_example, **given)
            assert total(zeroed) == pytest.approx(total(sound) / 2)
            for name, gradient in zeroed.gradients.items():
                assert_zero(gradient[0])
                assert_same_bits(gradient[1], sound.gradients[name][1])
        with pytest.raises(InvalidRequest, match="must have a finite"):
            _run(engine, case, **{**given, "nonfinite": NonfinitePolicy.ERROR})
