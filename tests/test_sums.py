"""Sums of losses: every term by itself, the total, and one gradient for what they share."""

import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lossd import sums
from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.errors import InvalidParameter, InvalidRequest, InvalidTensor
from lossd.losses import LOSSES, Status, TokenAggregation
from lossd.losses._maths.gan_costs import GanObjective
from lossd.losses._maths.policy import PolicyObjective
from lossd.losses._maths.policy_divergence import KlEstimator
from lossd.losses._maths.policy_tokens import PolicyRatio
from lossd.losses._maths.preferences import PreferenceObjective
from lossd.losses.cross_entropy import CrossEntropyOutput
from lossd.reduction import EmptyPolicy, NonfinitePolicy, Reduction
from lossd.sums import SumJob, Term
from tests.losses.case import values
from tests.losses.compare import assert_same_bits, assert_zero

SAME = {"targets": "other"}


def _classes() -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(0)
    return {
        "predictions": rng.normal(size=(6, 4)),
        "targets": rng.integers(0, 4, 6),
        "other": rng.uniform(size=(6, 4)),
    }


def _vectors() -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(1)
    return {"queries": rng.normal(size=(6, 4)), "keys": rng.normal(size=(6, 4))}


def _term(weight: float, loss: str, names: dict[str, str] | None = None, **options: Any) -> Term:
    parameters = options.pop("parameters", {})
    job = Job(loss=LOSSES[loss], parameters=parameters, inputs={}, **options)
    own = {declared.name: declared.name for declared in job.loss.inputs}
    return Term(weight=weight, job=job, names={**own, **(names or {})})


def _run(engine: Engine, *terms: Term, inputs: dict[str, Any] | None = None, **more: Any) -> Result:
    arrays = {name: [array] for name, array in (inputs or _classes()).items()}
    return sums.run(engine, SumJob(terms=terms, inputs=arrays, **more))


def _alone(engine: Engine, term: Term, inputs: dict[str, Any], **options: Any) -> Result:
    given = {own: [inputs[name]] for own, name in term.names.items() if name in inputs}
    job = Job(loss=term.job.loss, parameters=term.job.parameters, inputs=given, **options)
    return engine.run(job)


def _two(**options: Any) -> tuple[Term, Term]:
    return (
        _term(0.7, "cross_entropy", **options),
        _term(-0.3, "squared_error", SAME, **options),
    )


OPTIONS: list[dict[str, Any]] = [
    {},
    {"reduction": Reduction.SUM},
    {"reduction": Reduction.BATCH_MEAN, "weights": np.arange(6.0)},
    {"mask": np.arange(6) > 1, "cotangent": np.array(2.0)},
    {"normalizer": 3.0, "cotangent": np.arange(6.0)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
def test_the_total_and_its_gradients_are_the_weighted_sums(
    engine: Engine, options: dict[str, Any]
) -> None:
    terms = _two(**options)
    wanted = ("predictions", "other")
    result = _run(engine, *terms, gradients=wanted)
    first = _alone(engine, terms[0], _classes(), gradients=("predictions",), **options)
    second = _alone(engine, terms[1], _classes(), gradients=("predictions", "targets"), **options)
    assert first.loss is not None
    assert second.loss is not None
    assert result.loss == pytest.approx(0.7 * first.loss - 0.3 * second.loss, rel=1e-14)
    assert result.loss_sum == pytest.approx(0.7 * first.loss_sum - 0.3 * second.loss_sum)
    np.testing.assert_allclose(
        result.gradients["predictions"],
        0.7 * first.gradients["predictions"] - 0.3 * second.gradients["predictions"],
        rtol=1e-13,
        atol=1e-16,
    )
    np.testing.assert_allclose(result.gradients["other"], -0.3 * second.gradients["targets"])
    assert result.per_example is not None
    assert first.per_example is not None
    assert second.per_example is not None
    np.testing.assert_allclose(
        result.per_example, 0.7 * first.per_example - 0.3 * second.per_example, rtol=1e-13
    )
    for term, alone in zip(result.terms, (first, second), strict=True):
        assert (term.loss, term.loss_sum) == (alone.loss, alone.loss_sum)
        assert (term.example_count, term.weight_sum) == (alone.example_count, alone.weight_sum)
        squares = sum((gradient**2).sum() for gradient in alone.gradients.values())
        assert term.gradient_norm == pytest.approx(np.sqrt(squares), rel=1e-13)
    assert result.example_count == first.example_count
    assert result.weight_sum == first.weight_sum


def test_by_default_the_gradients_are_those_of_the_terms(engine: Engine) -> None:
    assert list(_run(engine, *_two()).gradients) == ["predictions"]
    renamed = _term(1, "squared_error", {"predictions": "other", "targets": "third"})
    inputs = {**_classes(), "third": np.zeros((6, 4))}
    result = _run(engine, _two()[0], renamed, inputs=inputs)
    assert sorted(result.gradients) == ["other", "predictions"]
    assert not _run(engine, *_two(), gradients=()).gradients
    assert all(term.gradient_norm == 0 for term in _run(engine, *_two(), gradients=()).terms)


def test_a_term_leaves_out_what_another_takes_by_a_name_that_is_not_given(engine: Engine) -> None:
    rng = np.random.default_rng(2)
    logs, references = -rng.exponential(size=(2, 3, 4))
    inputs = {"log_probabilities": logs, "advantages": rng.normal(size=3)}
    given = {**inputs, "reference_log_probabilities": references}
    plain = {
        "objective": PolicyObjective.REINFORCE,
        "ratio": PolicyRatio.NONE,
        "aggregation": TokenAggregation.TOKEN_MEAN,
    }
    with_divergence = {**plain, "kl_estimator": KlEstimator.K3, "kl_coefficient": 0.1}
    first = _term(1, "policy_gradient", parameters=with_divergence)
    shared = _term(1, "policy_gradient", parameters=plain)
    with pytest.raises(InvalidParameter, match=r"^terms\[1\]: kl_estimator must be given with ref"):
        _run(engine, first, shared, inputs=given)
    without = {"reference_log_probabilities": "none"}
    second = _term(1, "policy_gradient", without, parameters=plain)
    result = _run(engine, first, second, inputs=given)
    found = [term.loss for term in result.terms]
    assert found == [_alone(engine, first, given).loss, _alone(engine, shared, inputs).loss]


OF_PARAMETERS = {
    "terms[0].temperature": 0.3,
    "terms[1].temperature": 0.7,
    "terms[1].bias": -2.0,
    "terms[2].temperature": 0.5,
}


def _three(numbers: Mapping[str, float] = OF_PARAMETERS, **options: Any) -> tuple[Term, ...]:
    """Terms of parameters with a gradient; two have the same loss, and one has two parameters."""
    parameters: list[dict[str, float]] = [{}, {}, {}]
    for name, number in numbers.items():
        place, own = _split(name)
        parameters[place][own] = number
    return (
        _term(0.7, "info_nce", parameters=parameters[0], **options),
        _term(-0.3, "sigmoid_contrastive", parameters=parameters[1], **options),
        _term(2.0, "info_nce", parameters=parameters[2], **options),
    )


def _split(name: str) -> tuple[int, str]:
    """The place and the parameter in "terms[0].temperature"."""
    place, _, own = name.removeprefix("terms[").partition("].")
    return int(place), own


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
def test_gradients_by_parameters_are_those_of_the_terms(
    engine: Engine, options: dict[str, Any]
) -> None:
    terms = _three(**options)
    result = _run(engine, *terms, inputs=_vectors(), gradients=("queries", *OF_PARAMETERS))
    assert sorted(result.gradients) == sorted(["queries", *OF_PARAMETERS])
    for name in OF_PARAMETERS:
        place, own = _split(name)
        term = terms[place]
        alone = _alone(engine, term, _vectors(), gradients=(own,), **options)
        assert result.gradients[name].dtype == np.float64
        assert result.gradients[name].shape == ()
        assert result.gradients[name] == term.weight * alone.gradients[own]
        assert alone.gradients[own] != 0
    bare = _run(engine, *terms, inputs=_vectors(), gradients=("queries",))
    assert_same_bits(result.gradients["queries"], bare.gradients["queries"])
    assert result.terms == bare.terms, "the norm is of the gradient with respect to the inputs"


@pytest.mark.parametrize("name", OF_PARAMETERS)
def test_the_gradient_by_a_parameter_is_the_derivative_of_the_total(
    engine: Engine, name: str
) -> None:
    def moved(way: float) -> float:
        numbers = {**OF_PARAMETERS, name: OF_PARAMETERS[name] + way}
        return _run(engine, *_three(numbers), inputs=_vectors()).loss or 0

    step = 1e-5
    found = _run(engine, *_three(), inputs=_vectors(), gradients=(name,)).gradients
    assert list(found) == [name]
    assert found[name] == pytest.approx((moved(step) - moved(-step)) / (2 * step), rel=1e-7)


def test_a_parameter_of_a_weightless_term_has_no_gradient(engine: Engine) -> None:
    """Also where it would not be finite."""
    spoilt = {**_vectors(), "queries": np.full((6, 4), np.nan)}
    name = "terms[0].temperature"
    result = _run(engine, _term(0, "info_nce"), inputs=spoilt, gradients=(name,))
    assert_same_bits(result.gradients[name], np.zeros(()))
    shown = _run(engine, _term(1, "info_nce"), inputs=spoilt, gradients=(name,))
    assert np.isnan(shown.gradients[name])
    assert shown.status is Status.NONFINITE


def test_a_parameter_out_of_bounds_is_named_by_the_place_of_its_term(engine: Engine) -> None:
    wrong = _term(1, "cross_entropy"), _term(1, "huber", SAME, parameters={"delta": -1.0})
    with pytest.raises(InvalidParameter, match=r"terms\[1\]: delta must be in") as caught:
        _run(engine, *wrong)
    assert caught.value.field == "loss.weighted_sum.terms[1].loss.huber.delta"


def test_a_parameter_goes_by_the_place_of_its_term(engine: Engine) -> None:
    possible = (
        r"queries, keys, terms\[0\].temperature, terms\[1\].temperature, terms\[1\].bias, "
        r"terms\[2\].temperature for these terms with these inputs"
    )
    for wrong in (
        "temperature", "bias", "terms[0].bias", "terms[3].temperature", "terms[-1].temperature",
        "terms[0].normalize", "terms[00].temperature", "terms[0].weight", "terms.temperature",
        "negatives", "terms[0].queries", "",
    ):  # fmt: skip
        with pytest.raises(InvalidRequest, match=f"gradients must be among {possible}") as caught:
            _run(engine, *_three(), inputs=_vectors(), gradients=("queries", wrong))
        assert caught.value.field == "gradients.inputs[1]"
        assert str(caught.value).endswith(f"got {wrong!r}")
    name = "terms[1].bias"
    taken = _term(1, "squared_error", {"predictions": name, "targets": "keys"})
    inputs = {**_vectors(), name: np.zeros((6, 4))}
    with pytest.raises(InvalidTensor, match=r"inputs must be named unlike .*, got 'terms\[1\].b"):
        _run(engine, *_three(), taken, inputs=inputs)
    del inputs["queries"]
    assert list(_run(engine, taken, inputs=inputs).gradients) == [name]


def test_the_gradient_by_an_input_that_is_not_given_is_refused(engine: Engine) -> None:
    with pytest.raises(
        InvalidRequest, match=r"gradients must be among queries, keys.* 'negatives'"
    ):
        _run(engine, _term(1, "info_nce"), inputs=_vectors(), gradients=("negatives",))


def test_one_input_may_be_two_inputs_of_a_term(engine: Engine) -> None:
    """Then its gradient is the sum of both."""
    both = _term(1, "squared_error", {"targets": "predictions"})
    inputs = {"predictions": _classes()["predictions"]}
    result = _run(engine, both, inputs=inputs, gradients=("predictions",))
    assert result.loss == 0
    assert_zero(result.gradients["predictions"])


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e300])
def test_the_norm_of_a_term_is_of_the_gradient_with_respect_to_the_inputs_of_the_request(
    engine: Engine, scale: float
) -> None:
    """One input that is several inputs of a term has one gradient, their sum."""
    inputs = {"all": _vectors()["queries"], "apart": _vectors()["keys"]}
    names = {"queries": "all", "keys": "all", "negatives": "apart"}
    cotangent = np.array(scale)
    alike = _term(0.5, "info_nce", names, cotangent=cotangent)
    found = _run(engine, alike, inputs=inputs)
    gradients = [gradient / scale for gradient in found.gradients.values()]
    assert sorted(found.gradients) == ["all", "apart"]
    length = np.linalg.norm(np.concatenate([2 * gradient.ravel() for gradient in gradients]))
    assert found.terms[0].gradient_norm == pytest.approx(scale * length, rel=1e-13)
    alone = _alone(engine, alike, inputs, cotangent=cotangent)
    apart = np.linalg.norm([np.linalg.norm(each / scale) for each in alone.gradients.values()])
    assert length != pytest.approx(apart, rel=0.01)


def test_the_norm_of_a_gradient_that_cancels_is_zero(engine: Engine) -> None:
    """The mean score of what is generated, less that of what is real."""
    names = {"real": "scores", "fake": "scores"}
    term = _term(1, "discriminator_loss", names, parameters={"objective": GanObjective.WASSERSTEIN})
    found = _run(engine, term, inputs={"scores": np.arange(4.0)})
    assert_zero(found.gradients["scores"])
    assert found.terms[0].gradient_norm == 0


def test_the_norm_of_a_gradient_of_two_inputs_is_told_where_their_sum_is_beyond_their_type(
    engine: Engine,
) -> None:
    inputs = {"scores": np.array([3.0, 0], np.float32)}
    names = {"real": "scores", "fake": "scores"}
    parameters = {"objective": GanObjective.LEAST_SQUARES}
    term = _term(
        1, "discriminator_loss", names, parameters=parameters,
        reduction=Reduction.SUM, cotangent=np.array(1e38),
    )  # fmt: skip
    found = _run(engine, term, inputs=inputs)
    assert np.isinf(found.gradients["scores"][0])
    assert found.terms[0].gradient_norm == pytest.approx(1e38 * np.hypot(5, -1), rel=1e-6)


def test_sixteen_terms_give_one_gradient(engine: Engine) -> None:
    """Each by itself, and together what one of all their weight gives."""
    deltas = np.linspace(0.25, 4, 16)
    terms = [_term(1 / 16, "huber", SAME, parameters={"delta": float(delta)}) for delta in deltas]
    inputs = {name: _classes()[name] for name in ("predictions", "other")}
    result = _run(engine, *terms, inputs=inputs)
    alone = [_alone(engine, term, inputs) for term in terms]
    assert len(result.terms) == 16
    assert [term.loss for term in result.terms] == [one.loss for one in alone]
    assert len({term.gradient_norm for term in result.terms}) > 8
    assert result.loss == pytest.approx(np.mean([one.loss or 0 for one in alone]), rel=1e-14)
    expected = np.mean([one.gradients["predictions"] for one in alone], axis=0)
    np.testing.assert_allclose(result.gradients["predictions"], expected, rtol=1e-13, atol=1e-17)


def test_outputs_of_a_term_are_those_before_its_weight(engine: Engine) -> None:
    """Of the term by itself: an example that is zeroed in the total alone has them."""
    parameters = {"outputs": (CrossEntropyOutput.LOG_SUM_EXP, CrossEntropyOutput.ENTROPY)}
    mask = np.arange(6) != 2
    inputs = _classes()
    expected = np.where(mask, np.log(np.exp(inputs["predictions"]).sum(axis=1)), 0)
    inputs["other"][1] = np.nan
    given: dict[str, Any] = {"mask": mask, "nonfinite": NonfinitePolicy.ZERO}
    for weight in (0.7, -2.0, 0.0):
        asked = _term(weight, "cross_entropy", parameters=parameters, **given)
        found = _run(engine, asked, _term(1, "squared_error", SAME, **given), inputs=inputs)
        assert not found.outputs
        assert list(found.terms[0].outputs) == ["log_sum_exp", "entropy"]
        np.testing.assert_allclose(found.terms[0].outputs["log_sum_exp"], expected, rtol=1e-14)
        assert not found.terms[1].outputs


def test_outputs_of_all_terms_are_said(engine: Engine) -> None:
    """They are kept until the last term is computed."""
    rows, count = 50_000, 16
    arrays: dict[str, Any] = {
        "predictions": [np.zeros((rows, 2), np.float32)],
        "targets": [np.zeros(rows, np.int64)],
    }

    def held(**parameters: Any) -> tuple[int, Result]:
        terms = (_term(1, "cross_entropy", parameters=parameters),) * count
        said: list[int] = []
        job = SumJob(terms=terms, inputs=arrays, gradients=())
        result = sums.run(engine, job, hold=said.append)
        return sum(said), result

    without, _ = held()
    said, found = held(outputs=tuple(CrossEntropyOutput))
    kept = sum(output.nbytes for term in found.terms for output in term.outputs.values())
    assert kept == count * rows * (3 * 4 + 8)
    assert said - without >= kept


@pytest.mark.parametrize("shape", [(300_000, 1), (20, 50_000)])
@pytest.mark.parametrize("count", [1, 2, 16])
def test_terms_take_no_more_than_they_say(shape: tuple[int, ...], count: int) -> None:
    """However many there are: a gradient is added to the total, and let go."""
    engine = Engine(NumpyBackend(1))
    inputs = {name: [np.zeros(shape, np.float32)] for name in ("predictions", "other")}
    job = SumJob(terms=(_term(1, "squared_error", SAME),) * count, inputs=inputs)
    held: list[int] = []
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        sums.run(engine, job, hold=held.append)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        engine.close()
    assert peak - before <= sum(held) + (1 << 18)


def test_a_term_of_weight_zero_adds_nothing(engine: Engine) -> None:
    inputs = {**_classes(), "other": np.full((6, 4), np.nan)}
    terms = _two()[0], _term(0, "squared_error", SAME)
    result = _run(engine, *terms, inputs=inputs)
    alone = _alone(engine, terms[0], inputs)
    assert result.loss == pytest.approx(0.7 * (alone.loss or 0))
    np.testing.assert_allclose(
        result.gradients["predictions"], 0.7 * alone.gradients["predictions"]
    )
    assert np.isnan(result.terms[1].loss)


def test_a_gradient_that_overflows_is_not_taken_by_a_weight_or_cotangent_of_zero(
    engine: Engine,
) -> None:
    """Nor by a weight that is 0 in the type of the gradient."""
    for dtype, weights in ((np.float32, (0.0, 1e-60)), (np.float64, (0.0,))):
        inputs = {"predictions": np.full((6, 4), 800, dtype), "other": np.ones((6, 4), dtype)}
        for weight in weights:
            result = _run(engine, _term(weight, "poisson_nll", SAME), inputs=inputs)
            assert_zero(result.gradients["predictions"])
        for cotangent in (np.array(0.0), np.zeros(6)):
            term = _term(2, "poisson_nll", SAME, cotangent=cotangent)
            assert_zero(_run(engine, term, inputs=inputs).gradients["predictions"])


@pytest.mark.parametrize("weight", [2e39, -1e300])
def test_a_weight_beyond_the_type_takes_no_zero_for_nan(engine: Engine, weight: float) -> None:
    inputs = {"predictions": np.array([0, 1e-30, 2], np.float32), "other": np.zeros(3, np.float32)}
    result = _run(engine, _term(weight, "absolute_error", SAME), inputs=inputs)
    with np.errstate(over="ignore"):
        expected = (weight * inputs["predictions"].astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(result.per_example, expected)
    assert np.isfinite(expected).tolist() == [True, weight == 2e39, False]
    assert_zero(result.gradients["predictions"][:1])
    assert result.statuses.indices.tolist() == [1, 2]  # a value or a gradient is infinite


def test_a_weight_below_the_normal_numbers_of_the_type_keeps_its_digits(engine: Engine) -> None:
    inputs = {"predictions": np.full(2, 1e19, np.float32), "other": np.zeros(2, np.float32)}
    terms = _term(3e-42, "squared_error", SAME, reduction=Reduction.SUM)
    result = _run(engine, terms, inputs=inputs)
    np.testing.assert_allclose(values(result), 3e-4, rtol=1e-6)
    np.testing.assert_allclose(result.gradients["predictions"], 6e-23, rtol=1e-6)


def test_a_total_that_is_not_finite_says_so(engine: Engine) -> None:
    """Though every term is: in float16 a gradient ends at 65,504."""
    inputs = {"predictions": np.array([0, 3e3], np.float16), "other": np.zeros(2, np.float16)}
    terms = _term(60, "squared_error", SAME), _term(1, "huber", SAME)
    result = _run(engine, *terms, inputs=inputs)
    assert result.gradients["predictions"].tolist() == [0, np.inf]
    assert result.nonfinite_examples.tolist() == result.statuses.indices.tolist() == [1]
    assert result.statuses.numbers.tolist() == [Status.NONFINITE]


def test_half_precision_is_rounded_once(engine: Engine) -> None:
    """Two terms that nearly cancel: rounded before, little would be left."""
    narrow = {n: a.astype(np.float16) if a.dtype.kind == "f" else a for n, a in _classes().items()}
    wide = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in narrow.items()}
    del narrow["targets"], wide["targets"]
    terms = _term(1, "squared_error", SAME), _term(-0.999, "huber", SAME)
    result = _run(engine, *terms, inputs=narrow).gradients["predictions"]
    expected = _run(engine, *terms, inputs=wide).gradients["predictions"]
    assert result.dtype == np.float16
    np.testing.assert_allclose(result, expected, rtol=2**-11 * 1.01, atol=2**-24)


def test_examples_of_different_shapes_have_no_losses_in_common(engine: Engine) -> None:
    maps = {"maps": np.zeros((3, 2)), "truth": np.ones((3, 2))}
    inputs = {"predictions": _classes()["predictions"], "targets": _classes()["targets"], **maps}
    dice = _term(1, "dice", {"predictions": "maps", "targets": "truth"})
    result = _run(engine, _two()[0], dice, inputs=inputs)
    assert result.per_example is None
    assert [term.example_count for term in result.terms] == [6, 3]
    assert (result.example_count, result.weight_sum) == (0, 0)
    assert sorted(result.gradients) == ["maps", "predictions"]


def test_a_loss_of_a_set_and_lists_of_maps_may_be_terms(engine: Engine) -> None:
    random = np.random.default_rng(1)
    maps = [random.normal(size=(6, 3)), random.normal(size=(6, 2, 2))]
    arrays: dict[str, Any] = {
        "predictions": [_classes()["predictions"]],
        "targets": [_classes()["other"]],
        "maps": maps,
        "truth": [np.zeros_like(layer) for layer in maps],
    }
    terms = (
        _term(2, "soft_f1"),
        _term(3, "feature_matching", {"predictions": "maps", "targets": "truth"}),
    )
    result = sums.run(engine, SumJob(terms=terms, inputs=arrays))
    losses = [term.loss for term in result.terms]
    assert result.loss == pytest.approx(2 * losses[0] + 3 * losses[1])
    assert [g.shape for g in result.gradients["maps"]] == [layer.shape for layer in maps]
    np.testing.assert_allclose(result.gradients["maps"][0], 3 * 2 * maps[0] / 3 / 6)


SETS = {"soft_f1": (6, 4), "pairwise_auc": (6,)}


def _labels(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> dict[str, Any]:
    """Logits, and whether each is true, of examples along axis 0."""
    predictions = np.random.default_rng(5).normal(size=shape).astype(dtype)
    targets = (np.arange(predictions.size) % 2).reshape(shape).astype(dtype)
    return {"predictions": predictions, "targets": targets}


@pytest.mark.parametrize("a_set", SETS)
def test_what_a_set_says_of_its_examples_is_said_of_those_of_other_terms(
    engine: Engine, a_set: str
) -> None:
    inputs = _labels(SETS[a_set])
    inputs["predictions"][2] = np.nan
    terms = _term(1, "binary_cross_entropy"), _term(1, a_set)
    own, of_set = (_alone(engine, term, inputs) for term in terms)
    assert set(own.nonfinite_examples) < set(of_set.nonfinite_examples)
    for policy in (NonfinitePolicy.PROPAGATE, NonfinitePolicy.ZERO):
        asked = [replace(term, job=replace(term.job, nonfinite=policy)) for term in terms]
        for both in (asked, asked[::-1]):
            found = _run(engine, *both, inputs=inputs)
            assert found.nonfinite_examples.tolist() == of_set.nonfinite_examples.tolist()
            assert found.statuses.indices.tolist() == of_set.statuses.indices.tolist()
            assert found.statuses.numbers.tolist() == of_set.statuses.numbers.tolist()
            assert found.status is Status.NONFINITE
            assert found.per_example is None


@pytest.mark.parametrize("a_set", SETS)
def test_a_gradient_of_a_set_that_the_total_has_no_number_for_is_of_its_example(
    engine: Engine, a_set: str
) -> None:
    """Though only another term makes it so: a set has one cotangent."""
    inputs = {**_labels(SETS[a_set], np.float16), "other": np.zeros(SETS[a_set], np.float16)}
    inputs["other"][1] = 100

    def run(policy: NonfinitePolicy) -> Result:
        beside = _term(1e5, "squared_error", {"predictions": "other"}, nonfinite=policy)
        terms = _term(1, a_set, nonfinite=policy), beside
        return _run(engine, *terms, inputs=inputs, gradients=("predictions", "other"))

    found, zeroed = run(NonfinitePolicy.PROPAGATE), run(NonfinitePolicy.ZERO)
    for result in (found, zeroed):
        assert result.nonfinite_examples.tolist() == result.statuses.indices.tolist() == [1]
        assert result.status is None
    for name, gradient in zeroed.gradients.items():
        assert_zero(gradient[1])
        assert_same_bits(np.delete(gradient, 1, 0), np.delete(found.gradients[name], 1, 0))
    with pytest.raises(InvalidRequest, match="1 that have not, the first at 1"):
        run(NonfinitePolicy.ERROR)


@pytest.mark.parametrize("a_set", SETS)
def test_sets_of_other_examples_say_nothing_of_each_other(engine: Engine, a_set: str) -> None:
    """Nor of the examples of a loss that has values."""
    inputs = _labels(SETS[a_set])
    inputs["predictions"][2] = np.nan
    fewer = _labels((5, *SETS[a_set][1:]))
    inputs |= {"fewer": fewer["predictions"], "truth": fewer["targets"]}
    names = {"predictions": "fewer", "targets": "truth"}
    for beside in ("soft_f1", "binary_cross_entropy"):
        found = _run(engine, _term(1, a_set), _term(1, beside, names), inputs=inputs)
        assert not len(found.nonfinite_examples)
        assert not len(found.statuses.indices)
        assert found.status is Status.NONFINITE


def test_one_number_that_is_two_inputs_has_one_gradient(engine: Engine) -> None:
    """Which can be written to, as any array can."""
    inputs = {"predictions": np.array(np.inf, np.float32)}
    for policy in (NonfinitePolicy.PROPAGATE, NonfinitePolicy.ZERO):
        both = _term(
            1, "squared_error", {"targets": "predictions"},
            parameters={"batch_dims": 0}, nonfinite=policy,
        )  # fmt: skip
        found = _run(engine, both, both, inputs=inputs, gradients=("predictions",))
        gradient, is_zeroed = found.gradients["predictions"], policy is NonfinitePolicy.ZERO
        np.testing.assert_array_equal(gradient, np.float32(0 if is_zeroed else np.nan))
        assert isinstance(gradient, np.ndarray)
        assert isinstance(found.per_example, np.ndarray)
        assert found.nonfinite_examples.tolist() == [0]


def test_what_is_not_finite_is_of_the_first_term_that_says_so(engine: Engine) -> None:
    spoilt = {**_classes(), "predictions": _classes()["predictions"].copy()}
    spoilt["predictions"][2, 1] = np.nan
    result = _run(engine, *_two(), inputs=spoilt)
    assert result.nonfinite_examples.tolist() == [2]
    assert result.statuses.indices.tolist() == [2]
    assert result.statuses.numbers.tolist() == [Status.NONFINITE]
    zeroed = _run(engine, *_two(nonfinite=NonfinitePolicy.ZERO), inputs=spoilt)
    assert np.isfinite(zeroed.loss or 0)
    assert_zero(zeroed.gradients["predictions"][2])
    with pytest.raises(InvalidRequest, match=r"terms\[0\]: examples must have a finite") as caught:
        _run(engine, *_two(nonfinite=NonfinitePolicy.ERROR), inputs=spoilt)
    assert caught.value.reason == "NONFINITE_RESULT"


def test_the_status_of_an_example_is_that_of_the_first_term_that_has_one(engine: Engine) -> None:
    inputs = {
        "predictions": np.zeros((1, 1, 3)), "targets": np.array([[1, 2]]),  # in one frame
        "numbers": np.array([1e200]), "zeros": np.zeros(1),
    }  # fmt: skip
    terms = {
        Status.INFEASIBLE: _term(1, "ctc", reduction=Reduction.SUM),
        Status.NONFINITE: _term(
            1,
            "squared_error",
            {"predictions": "numbers", "targets": "zeros"},
            reduction=Reduction.SUM,
        ),
    }
    for first, second in (tuple(terms), tuple(terms)[::-1]):
        found = _run(engine, terms[first], terms[second], inputs=inputs)
        assert found.statuses.indices.tolist() == found.nonfinite_examples.tolist() == [0]
        assert found.statuses.numbers.tolist() == [first]


@pytest.mark.parametrize(("number", "weight"), [(np.nan, 1.0), (1e300, 1e300)], ids=["term", "sum"])
def test_statuses_of_many_examples_are_no_numbers_of_python(number: float, weight: float) -> None:
    """Those of a large batch take gigabytes, and the interpreter for seconds."""
    count = 1 << 16
    engine = Engine(NumpyBackend(1))
    inputs = {"predictions": np.full(count, number), "other": np.zeros(count)}
    inputs["predictions"][::2] = 1
    terms = [_term(weight, name, SAME) for name in ("absolute_error", "huber")]

    tracemalloc.start()
    try:
        result = _run(engine, *terms, inputs=inputs, gradients=())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        engine.close()

    spoilt = np.arange(1, count, 2)
    np.testing.assert_array_equal(result.nonfinite_examples, spoilt)
    np.testing.assert_array_equal(result.statuses.indices, spoilt)
    assert (result.statuses.numbers == Status.NONFINITE).all()
    assert peak < 80 * count


@pytest.mark.parametrize("weights", [(1.0, 1e-3), (1e4, 1.0)], ids=["cotangent", "weight"])
def test_what_is_infinite_in_the_total_alone_is_zeroed_or_refused(
    engine: Engine, weights: tuple[float, float]
) -> None:
    """The terms are computed in float32, where nothing is; float16 ends at 65,504."""
    inputs = {"predictions": np.array([100, 3, 2], np.float16), "other": np.zeros(3, np.float16)}
    cotangent = np.array([1e3 if weights[0] == 1 else 1.0, 1, 1])

    def run(rows: Any = slice(None), **options: Any) -> Result:
        given = {name: array[rows] for name, array in inputs.items()}
        options = {"reduction": Reduction.SUM, "cotangent": cotangent[rows], **options}
        terms = (
            _term(weights[0], "squared_error", SAME, **options),
            _term(weights[1], "huber", SAME, **options),
        )
        return _run(engine, *terms, inputs=given)

    assert run().nonfinite_examples.tolist() == [0]
    zeroed, others = run(nonfinite=NonfinitePolicy.ZERO), run(slice(1, None))
    assert zeroed.nonfinite_examples.tolist() == zeroed.statuses.indices.tolist() == [0]
    assert zeroed.per_example is not None
    assert zeroed.per_example[0] == zeroed.gradients["predictions"][0] == 0
    assert_same_bits(zeroed.gradients["predictions"][1:], others.gradients["predictions"])
    assert zeroed.loss == pytest.approx(others.loss)
    assert zeroed.loss_sum == pytest.approx(others.loss_sum)
    assert others.loss is not None
    for divisor, more in ((3, {}), (5, {"normalizer": 5.0})):
        given = {"reduction": Reduction.MEAN, "cotangent": cotangent * divisor, **more}
        mean = run(nonfinite=NonfinitePolicy.ZERO, **given)
        assert mean.nonfinite_examples.tolist() == [0]
        assert mean.loss == pytest.approx(others.loss / divisor)
    with pytest.raises(InvalidRequest, match="must have a finite weighted sum") as caught:
        run(nonfinite=NonfinitePolicy.ERROR)
    assert caught.value.reason == "NONFINITE_RESULT"


@pytest.mark.parametrize(
    ("loss", "axes", "axis"),
    [("cross_entropy", (3, 3), 0), ("cross_entropy", (2, 3, 3), 1), ("dice", (3, 3, 3), 2)],
)
def test_examples_are_found_on_their_axes_also_where_others_are_as_long(
    engine: Engine, loss: str, axes: tuple[int, ...], axis: int
) -> None:
    """Where a weight makes the gradient infinite, and where a logit is NaN."""
    logits = np.random.default_rng(2).normal(size=axes).astype(np.float32)
    targets = np.zeros(axes[:axis] + axes[axis + 1 :], np.int64)
    options: dict[str, Any] = {"parameters": {"class_axis": axis}, "reduction": Reduction.SUM}
    spoilt: dict[str, Any] = {"predictions": logits.copy(), "targets": targets}
    spoilt["predictions"].flat[1] = np.nan
    alone = _alone(engine, _term(1, loss, **options), spoilt, reduction=Reduction.SUM)
    found = _run(engine, _term(1, loss, **options), inputs=spoilt)
    assert found.nonfinite_examples.tolist() == alone.nonfinite_examples.tolist()
    assert len(found.nonfinite_examples) == 1

    def run(policy: NonfinitePolicy) -> Result:
        is_lost = np.isin(np.arange(values(alone).size), found.nonfinite_examples)
        cotangent = np.where(is_lost, 1e30, 1.0).reshape(values(alone).shape)
        term = _term(1e30, loss, cotangent=cotangent, nonfinite=policy, **options)
        return _run(engine, term, inputs={"predictions": logits, "targets": targets})

    beyond, zeroed = run(NonfinitePolicy.PROPAGATE), run(NonfinitePolicy.ZERO)
    assert beyond.nonfinite_examples.tolist() == alone.nonfinite_examples.tolist()
    lost = ~np.isfinite(alone.gradients["predictions"])
    assert_zero(zeroed.gradients["predictions"][lost])
    np.testing.assert_array_equal(
        zeroed.gradients["predictions"][~lost], beyond.gradients["predictions"][~lost]
    )


def _with_negatives(count: int, near_zero: str) -> dict[str, npt.NDArray[Any]]:
    """Four queries, and negatives that they share; one vector has a large gradient."""
    random = np.random.default_rng(3)
    names = {"queries": (4, 2), "keys": (4, 2), "negatives": (count, 2)}
    inputs = {name: random.normal(size=axes).astype(np.float32) for name, axes in names.items()}
    inputs[near_zero][1] *= 1e-30
    return inputs


@pytest.mark.parametrize("count", [4, 5])
def test_what_all_examples_share_is_none_of_theirs(engine: Engine, count: int) -> None:
    """Also where there are as many negatives as queries."""
    inputs = _with_negatives(count, "negatives")
    term = _term(1e10, "info_nce", reduction=Reduction.SUM)
    result = _run(engine, term, inputs=inputs)
    assert not np.isfinite(result.gradients["negatives"][1]).all()
    assert not len(result.nonfinite_examples)
    assert result.status is Status.NONFINITE
    term = replace(term, job=replace(term.job, nonfinite=NonfinitePolicy.ZERO))
    zeroed = _run(engine, term, inputs=inputs)
    lost = ~np.isfinite(result.gradients["negatives"])
    assert_zero(zeroed.gradients["negatives"][lost])
    assert_same_bits(zeroed.gradients["negatives"][~lost], result.gradients["negatives"][~lost])
    assert_same_bits(zeroed.gradients["queries"], result.gradients["queries"])


@pytest.mark.parametrize("count", [4, 5])
def test_an_example_that_is_zeroed_leaves_what_all_share(engine: Engine, count: int) -> None:
    inputs = _with_negatives(count, "queries")
    term = _term(1e10, "info_nce", reduction=Reduction.SUM)
    result = _run(engine, term, inputs=inputs)
    term = replace(term, job=replace(term.job, nonfinite=NonfinitePolicy.ZERO))
    zeroed = _run(engine, term, inputs=inputs)
    assert zeroed.nonfinite_examples.tolist() == result.nonfinite_examples.tolist() == [1]
    assert_zero(zeroed.gradients["queries"][1])
    assert_same_bits(zeroed.gradients["queries"][2:], result.gradients["queries"][2:])
    assert_same_bits(zeroed.gradients["negatives"], result.gradients["negatives"])


def test_a_slope_that_a_weight_makes_infinite_says_so(engine: Engine) -> None:
    wanted = ("terms[0].temperature",)
    result = _run(
        engine,
        _term(1e308, "info_nce", parameters={"temperature": 1e-3}),
        inputs=_vectors(),
        gradients=wanted,
    )
    assert np.isinf(result.gradients[wanted[0]])
    assert result.status is Status.NONFINITE


@pytest.mark.parametrize("reduction", [Reduction.SUM, Reduction.MEAN, Reduction.BATCH_MEAN])
@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("kahneman_tversky", {"baseline": 0.2}),
        ("binary_classifier_optimization", {}),  # its shift is that of all examples
    ],
)
def test_a_sequence_that_is_zeroed_is_not_in_the_loss(
    engine: Engine, loss: str, options: dict[str, float], reduction: Reduction
) -> None:
    """The gradient of one sequence is infinite in float16, and in no term."""
    rng = np.random.default_rng(4)
    inputs: dict[str, Any] = {
        "log_probabilities": -rng.exponential(1, (4, 3)).astype(np.float16),
        "reference_log_probabilities": -rng.exponential(1, (4, 3)).astype(np.float16),
        "desirable": np.array([True, False, True, False]),
    }
    weights, mask = np.array([0.5, 2, np.nan, 1]), np.array([True, True, False, True])
    more: dict[str, Any] = {
        "reduction": reduction, "parameters": options, "weights": weights, "mask": mask,
        "cotangent": np.array([1.0, 1e7, 1, 1]),
    }  # fmt: skip
    term = _term(0.5, loss, nonfinite=NonfinitePolicy.ZERO, **more)
    found = _run(engine, term, inputs=inputs)
    assert found.nonfinite_examples.tolist() == [1]
    values = found.per_example
    assert values is not None
    assert values[1] == 0
    left = [0, 3]
    total = float((values[left].astype(np.float64) * weights[left]).sum())
    divisor = {Reduction.SUM: 1.0, Reduction.MEAN: 3.5, Reduction.BATCH_MEAN: 3.0}[reduction]
    assert found.loss_sum == pytest.approx(total, rel=1e-6)
    assert found.loss == pytest.approx(total / divisor, rel=1e-6)


OF_SUMS: list[tuple[str, dict[str, Any]]] = [
    ("bradley_terry", {"chosen_rewards": [np.nan], "rejected_rewards": [0.0]}),
    ("bradley_terry", {"chosen_rewards": [0.5, np.nan], "rejected_rewards": [0.0, 1.0]}),
    (
        "preference",
        {
            "chosen_log_probabilities": [np.nan, -1.0],
            "rejected_log_probabilities": [-2.0, -3.0],
            "chosen_reference_log_probabilities": [-1.0, -1.0],
            "rejected_reference_log_probabilities": [-1.0, -1.0],
        },
    ),
    (
        "kahneman_tversky",
        {
            "log_probabilities": [np.nan, -1.0],
            "reference_log_probabilities": [-2.0, -2.0],
            "desirable": [True, False],
        },
    ),
]
OPTIONS_OF_SUMS: dict[str, dict[str, Any]] = {
    "preference": {"objective": PreferenceObjective.SIGMOID, "beta": 0.1},
    "kahneman_tversky": {"baseline": 0.2},
}


@pytest.mark.parametrize(("loss", "given"), OF_SUMS)
def test_a_sum_of_one_term_says_what_its_loss_says_of_sequences_given_as_sums(
    engine: Engine, loss: str, given: dict[str, Any]
) -> None:
    """Their gradients belong to examples."""
    inputs = {name: np.asarray(numbers) for name, numbers in given.items()}
    term = _term(1, loss, parameters=OPTIONS_OF_SUMS.get(loss, {}))
    alone = _alone(engine, term, inputs)
    found = _run(engine, term, inputs=inputs)
    assert found.status == alone.status
    assert found.nonfinite_examples.tolist() == alone.nonfinite_examples.tolist()
    assert found.statuses.numbers.tolist() == alone.statuses.numbers.tolist()


def test_a_pair_of_rewards_whose_gradient_a_weight_makes_infinite_is_zeroed(
    engine: Engine,
) -> None:
    inputs = {
        "chosen_rewards": np.array([1.0, -1.0], np.float16),
        "rejected_rewards": np.array([0.0, 0.0], np.float16),
    }
    more: dict[str, Any] = {"cotangent": np.array([1.0, 1e7]), "reduction": Reduction.SUM}
    term = _term(1, "bradley_terry", nonfinite=NonfinitePolicy.ZERO, **more)
    found = _run(engine, replace(term, weight=0.5), inputs=inputs)
    assert found.nonfinite_examples.tolist() == [1]
    assert found.status is None
    for gradient in found.gradients.values():
        assert gradient[1] == 0
        assert gradient[0] != 0


def test_what_is_left_of_large_losses_has_a_mean_where_its_sum_is_infinite(
    engine: Engine,
) -> None:
    """One example is lost, and the others add up to more than float64 holds."""
    far = np.array([np.inf, 1.5e308, 1e308, 1.5e308])
    inputs = {"predictions": far, "other": np.zeros(4)}
    term = _term(0.5, "absolute_error", SAME, nonfinite=NonfinitePolicy.ZERO)
    found = _run(engine, term, inputs=inputs)
    assert found.nonfinite_examples.tolist() == [0]
    assert found.loss == pytest.approx(0.5e308, rel=1e-14)


def test_a_term_of_two_sides_keeps_its_loss_where_an_example_is_zeroed(engine: Engine) -> None:
    inputs = {
        "predictions": np.array([1.2e154, 2, 1]), "other": np.zeros(3),
        "fake": np.array([0.3, -0.2, 1]),
    }  # fmt: skip
    options: dict[str, Any] = {"nonfinite": NonfinitePolicy.ZERO}
    errors = [_term(1, "squared_error", SAME, **options) for _ in range(2)]
    other = _term(1, "generator_loss", **options)
    found, alone = _run(engine, *errors, other, inputs=inputs), _alone(engine, other, inputs)
    assert found.nonfinite_examples.tolist() == [0]
    assert alone.loss is not None
    assert found.loss == pytest.approx(2 * (4 + 1) / 3 + alone.loss)
    assert found.loss_sum == pytest.approx(2 * (4 + 1) + alone.loss_sum)


def test_a_batch_of_which_all_is_zeroed_is_not_an_empty_one(engine: Engine) -> None:
    options = {"nonfinite": NonfinitePolicy.ZERO, "empty": EmptyPolicy.ERROR}
    inputs = {"predictions": np.array([1e15, 1e16], np.float32), "other": np.zeros(2, np.float32)}
    found = _run(engine, _term(1e10, "squared_error", SAME, **options), inputs=inputs)
    assert (found.loss, found.nonfinite_examples.tolist()) == (0.0, [0, 1])


def test_what_has_no_meaning_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="reduction must be mean, batch_mean or sum"):
        _run(engine, *_two(reduction=Reduction.NONE))
    with pytest.raises(
        InvalidTensor, match="inputs must be among predictions, targets, other, g"
    ) as caught:
        _run(engine, *_two(), inputs={**_classes(), "more": np.zeros(3)})
    assert caught.value.field == f"inputs[{len(_classes())}].name"
    with pytest.raises(InvalidRequest, match="gradients must be among predictions, other for"):
        _run(engine, *_two(), gradients=("targets",))
    with pytest.raises(InvalidTensor, match=r"terms\[1\]: other must be given for .*, got nothing"):
        _run(engine, *_two(), inputs={n: _classes()[n] for n in ("predictions", "targets")})
    mixed = _two(normalizer=2.0)[0], _term(1, "soft_f1", SAME, normalizer=2.0)
    with pytest.raises(InvalidRequest, match=r"terms\[1\]: normalizer must be unset"):
        _run(engine, *mixed)
    dice = _term(1, "dice", {"predictions": "m", "targets": "m"}, weights=np.ones(6))
    inputs = {n: a for n, a in _classes().items() if n != "other"} | {"m": np.ones((3, 2))}
    with pytest.raises(InvalidTensor, match=r"terms\[1\]: weights must have the shape \[3\]"):
        _run(engine, _two(weights=np.ones(6))[0], dice, inputs=inputs)


def test_inputs_stay_and_the_same_request_has_the_same_bits(engine: Engine) -> None:
    inputs = _classes()
    before = {name: array.copy() for name, array in inputs.items()}
    first, second = (_run(engine, *_two(), inputs=inputs) for _ in range(2))
    assert first.loss == second.loss
    assert_same_bits(first.gradients["predictions"], second.gradients["predictions"])
    for name, array in inputs.items():
        assert_same_bits(array, before[name])
        assert not np.shares_memory(first.gradients["predictions"], array)


def test_names_are_told_at_a_length_that_a_message_may_have(engine: Engine) -> None:
    long = "x" * 20_000
    term = _term(1, "cross_entropy", {"predictions": long, "targets": "t"})
    with pytest.raises(InvalidTensor, match=r"^inputs must be among x{64}, t, got"):
        _run(engine, term, inputs={"none": np.zeros(3)})
    given = {long: np.zeros((2, 3)), "t": np.zeros(2, np.int64)}
    with pytest.raises(InvalidRequest, match=r"^gradients must be among x{64} for"):
        _run(engine, term, inputs=given, gradients=["none"])
