"""Numbers and weights of any size: right numbers where there are any, and reasons elsewhere."""

import enum
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from lossd.evaluation import METRICS, InputError, Metric, Score, merged
from lossd.evaluation._averages import Average
from lossd.evaluation.calibration_error import CalibrationNorm
from lossd.evaluation.confusion_matrix import Normalization
from lossd.evaluation.regression_errors import RegressionError
from lossd.evaluation.retrieval_at_k import RetrievalGain
from lossd.losses import DistributionKind, ParameterError
from lossd.serving.evaluation_service import state as evaluation_state
from tests.evaluation.run import score, score_of, state, values_of
from tests.evaluation.test_states import part, requested, same

Data = dict[str, Any]
SIZES = [0, 5e-324, 1e-310, 1e-200, 1e-100, 1, 1e100, 1e153, 1e200, 1e300, 1.7e308]
LARGEST = float(np.finfo(np.float64).max)
DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]
OF_NUMBERS = [name for name, metric in METRICS.items() if not metric.inputs[0].is_text]
PROBABILITIES = {"prediction_kind": DistributionKind.PROBABILITIES}


def exact(expected: Any) -> Any:
    return pytest.approx(float(expected), rel=1e-12, abs=0)


# ------------------------------------------------------------------ anything in any mix

NUMBERS: Mapping[str, Sequence[Any]] = {
    "beta": (0.0, 1e-200, 1.0, 1e6),
    "max_fpr": (1e-300, 0.3, 1.0),
    "threshold": (0.0, 0.5, 1e300),
    "ignore_index": (-1, 0),
    "classes": (3,),
    "k": (1, 3, 100),
    "top_k": (1, 2),
    "bins": (1, 15),
}


def drawn_parameters(metric: Metric, random: np.random.Generator) -> Data:
    found: Data = {}
    for parameter in metric.all_parameters:
        kind: Any = parameter.type
        if random.random() < 0.6:
            continue
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            found[parameter.name] = list(kind)[int(random.integers(len(kind)))]
        elif kind is bool:
            found[parameter.name] = bool(random.integers(2))
        elif parameter.name in NUMBERS:
            options = NUMBERS[parameter.name]
            found[parameter.name] = options[int(random.integers(len(options)))]
    return found


def drawn(random: np.random.Generator, shape: tuple[int, ...], *, finite: bool) -> Any:
    pool = SIZES if finite else [*SIZES, np.inf, np.nan]
    return random.choice(pool, shape) * random.choice([-1, 1], shape)


def drawn_data(name: str, random: np.random.Generator) -> Data:
    """Scores, answers and weights; half of the time all are finite."""
    count, finite = int(random.integers(0, 7)), bool(random.integers(2))
    dtype = DTYPES[random.integers(len(DTYPES))]
    shape: tuple[int, ...] = (count, 3) if random.integers(2) else (count,)
    with np.errstate(over="ignore"):
        if name == "regression_errors":
            data = {n: drawn(random, shape, finite=finite) for n in ("predictions", "targets")}
            data = {n: each.astype(dtype) for n, each in data.items()}
        elif name == "retrieval_at_k":
            data = {
                "predictions": drawn(random, (count, 4), finite=finite).astype(dtype),
                "targets": random.choice(
                    [0, 5e-324, 1e-20, 0.5, 1, 2, 1000, 1023, 1e6], (count, 4)
                ),
            }
        else:
            most, answers = (3, shape[:1]) if random.integers(2) else (2, shape)
            scores = drawn(random, shape, finite=finite)
            if random.integers(2):
                scores = np.minimum(np.abs(scores), 1)
            data = {
                "predictions": scores.astype(dtype),
                "targets": random.integers(0, most, answers),
            }
    if random.random() < 0.8:
        data["weights"] = random.choice(SIZES, count)
    return data


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_whatever_is_given_there_is_a_number_or_a_reason_however_it_is_split(name: str) -> None:
    random = np.random.default_rng(OF_NUMBERS.index(name))
    metric, accepted = METRICS[name], 0
    for _ in range(300):
        parameters, data = drawn_parameters(metric, random), drawn_data(name, random)
        try:
            whole = state(name, parameters, **data)
        except (InputError, ParameterError):
            continue
        accepted += 1
        found = score_of(name, [whole], parameters)
        assert found.reason if found.value is None and found.values is None else True
        assert found.value is None or math.isfinite(found.value)
        order = random.permutation(len(data["targets"]))
        cuts = sorted(random.integers(0, len(order) + 1, 3))
        try:
            states = [
                state(name, parameters, **part(data, piece)) for piece in np.split(order, cuts)
            ]
        except (InputError, ParameterError):  # a part has no type of its own
            continue
        assert same(score_of(name, states, parameters), found)
        if not parameters:
            one = requested(name, {})
            encoded = [evaluation_state.write([one], [kept]) for kept in states]
            read = [kept for _, kept in evaluation_state.read(encoded, [one])]
            assert same(score_of(name, read), found)
    assert accepted > 60


# ------------------------------------------------------------------ order


AVERAGED = ("precision", "recall", "f1", "f_beta", "roc_auc", "average_precision")
SETTINGS: list[tuple[str, Data]] = [
    *((name, {"average": average}) for name in AVERAGED for average in Average),
    *((name, {}) for name in ("accuracy", "log_loss", "brier", "matthews_correlation")),
    ("accuracy", {"balanced": True}),
    *(("confusion_matrix", {"normalization": one}) for one in Normalization),
    *(("calibration_error", {"norm": norm}) for norm in CalibrationNorm),
]


@pytest.mark.parametrize(("name", "parameters"), SETTINGS)
def test_no_order_and_no_split_changes_a_bit(name: str, parameters: Data) -> None:
    random = np.random.default_rng(4)
    count = 120
    for columns in (0, 4, 4, 4):  # a yes or no, and classes
        data: Data = {
            "predictions": random.standard_normal((count, columns) if columns else count),
            "targets": random.integers(0, columns or 2, count),
            "weights": random.random(count) * 10.0 ** random.uniform(-1, 1, count),
        }
        data["predictions"][::3] = np.round(data["predictions"][::3], 0)
        expected = score(name, parameters, **data)
        for _ in range(20):
            order = random.permutation(count)
            cuts = sorted(random.integers(0, count + 1, random.integers(0, 5)))
            states = [
                state(name, parameters, **part(data, piece)) for piece in np.split(order, cuts)
            ]
            assert same(score_of(name, states, parameters), expected)


@pytest.mark.parametrize("power", [-1022, -700, -500, 500, 700, 1018])
def test_a_common_factor_of_the_weights_changes_no_bit(power: int) -> None:
    random = np.random.default_rng(7)
    answers: Data = {
        "predictions": random.standard_normal((9, 3)),
        "targets": np.arange(9) % 3,
    }
    yes_or_no: Data = {"predictions": random.standard_normal(9), "targets": np.arange(9) % 2}
    numbers: Data = {name: random.standard_normal((9, 2)) for name in ("predictions", "targets")}
    ranked: Data = {"predictions": random.random((9, 4)), "targets": random.integers(0, 3, (9, 4))}
    weights = random.integers(1, 32, 9) / 16
    cases = [(name, parameters, answers) for name, parameters in SETTINGS]
    cases += [(name, parameters, yes_or_no) for name, parameters in SETTINGS]
    cases += [("roc_auc", {"max_fpr": 0.3}, yes_or_no), ("perplexity", {}, answers)]
    cases += [("regression_errors", {"error": error}, numbers) for error in RegressionError]
    cases += [("retrieval_at_k", {}, ranked)]
    for name, parameters, data in cases:
        if parameters.get("normalization") is Normalization.NONE:
            continue
        expected = score(name, parameters, **data, weights=weights)
        found = score(name, parameters, **data, weights=np.ldexp(weights, power))
        assert same(found, expected), name


# ------------------------------------------------------------------ against fractions


def fractions(values: Any) -> list[Fraction]:
    return [Fraction(float(value)) for value in np.asarray(values).reshape(-1)]


def added(terms: Iterable[Fraction]) -> Fraction:
    return sum(terms, Fraction(0))


def area(scores: list[Fraction], yes: Any, weights: list[Fraction]) -> Fraction:
    pairs = right = Fraction(0)
    for i in np.flatnonzero(yes):
        for j in np.flatnonzero(~yes):
            pairs += weights[i] * weights[j]
            share = Fraction(int(scores[i] > scores[j]) + int(scores[i] >= scores[j]), 2)
            right += weights[i] * weights[j] * share
    return right / pairs


def precision_by_recall(scores: list[Fraction], yes: Any, weights: list[Fraction]) -> Fraction:
    total = added(w for w, one in zip(weights, yes, strict=True) if one)
    found = last = Fraction(0)
    for limit in sorted(set(scores), reverse=True):
        above = [i for i, one in enumerate(scores) if one >= limit]
        every = added(weights[i] for i in above)
        right = added(weights[i] for i in above if yes[i])
        if right > last:
            found += (right - last) / total * right / every
        last = right
    return found


@pytest.mark.parametrize("seed", range(30))
def test_curves_of_any_weights(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, yes = random.integers(0, 5, 8) / 2, np.array([1, 0, *random.integers(0, 2, 6)]) == 1
    weights = random.choice(SIZES[1:], 8)
    given: Data = {"predictions": scores, "targets": yes, "weights": weights}
    exactly = fractions(scores), yes, fractions(weights)
    assert score("roc_auc", **given).value == pytest.approx(float(area(*exactly)), abs=1e-12)
    expected = float(precision_by_recall(*exactly))
    assert score("average_precision", **given).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(30))
def test_counts_of_any_weights(seed: int) -> None:
    random = np.random.default_rng(seed)
    predictions, targets = random.integers(0, 3, 9), random.integers(0, 3, 9)
    weights = random.choice(SIZES[1:], 9)
    given: Data = {"predictions": predictions, "targets": targets, "weights": weights}
    exactly = fractions(weights)

    def total(chosen: Any) -> Fraction:
        return added(w for w, one in zip(exactly, chosen, strict=True) if one)

    matrix = [[total((targets == i) & (predictions == j)) for j in range(3)] for i in range(3)]
    found = score("confusion_matrix", {"normalization": Normalization.ALL, "classes": 3}, **given)
    every = total(targets >= 0)
    np.testing.assert_allclose(
        values_of(found).ravel(), [float(one / every) for row in matrix for one in row], rtol=1e-12
    )
    found = score("f1", {"average": Average.NONE, "classes": 3}, **given)
    for label in range(3):
        size = total(targets == label) + total(predictions == label)
        assert values_of(found)[label] == (
            exact(2 * matrix[label][label] / size) if size else pytest.approx(np.nan, nan_ok=True)
        )
    right = matrix[0][0] + matrix[1][1] + matrix[2][2]
    assert score("accuracy", **given).value == exact(right / every)
    of_target = [total(targets == c) for c in range(3)]
    predicted = [total(predictions == c) for c in range(3)]
    covariance = right * every - added(t * p for t, p in zip(of_target, predicted, strict=True))
    spread = (every**2 - added(t * t for t in of_target)) * (
        every**2 - added(p * p for p in predicted)
    )
    correlation = score("matthews_correlation", **given).value
    if spread:
        assert correlation is not None
        squared = float(covariance**2 / spread)
        assert correlation**2 == pytest.approx(squared, rel=1e-12, abs=1e-307)
        assert (correlation > 0) == (covariance > 0 and correlation != 0)


@pytest.mark.parametrize("seed", range(30))
def test_means_of_any_weights(seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, targets = random.standard_normal((6, 3)), random.integers(0, 3, 6)
    weights = random.choice(SIZES[1:], 6)
    exactly = fractions(weights)
    for name in ("log_loss", "brier", "perplexity"):
        each = [
            score(name, predictions=logits[i : i + 1], targets=targets[i : i + 1]).value
            for i in range(6)
        ]
        if name == "perplexity":
            each = [math.log(one) for one in each if one is not None]
        terms = zip(exactly, fractions(each), strict=True)
        mean = added(w * v for w, v in terms) / added(exactly)
        found = score(name, predictions=logits, targets=targets, weights=weights).value
        assert found is not None
        assert (math.log(found) if name == "perplexity" else found) == exact(mean)
    chances, yes = random.random(6), random.integers(0, 2, 6)
    gaps = [Fraction(p) - int(y) for p, y in zip(chances, yes, strict=True)]
    terms = zip(exactly, gaps, strict=True)
    expected = abs(added(w * gap for w, gap in terms)) / added(exactly)
    given: Data = {"predictions": chances, "targets": yes, "weights": weights}
    assert score("calibration_error", {"bins": 1, **PROBABILITIES}, **given).value == exact(
        expected
    )


@pytest.mark.parametrize("seed", range(60))
def test_regression_of_any_numbers(seed: int) -> None:
    random = np.random.default_rng(seed)
    # Of one size each, so that differences are the same rounded and exact.
    scale = float(random.choice([5e-324, 1e-310, 1e-170, 1e-100, 1, 1e100, 1e160, 2.0**1020]))
    predictions, targets = (random.integers(-9, 9, 4) * scale for _ in range(2))
    weights = random.choice(SIZES[1:], 4)
    w, p, y = fractions(weights), fractions(predictions), fractions(targets)
    total = added(w)
    squares = added(a * (b - c) ** 2 for a, b, c in zip(w, p, y, strict=True)) / total
    mean = added(a * c for a, c in zip(w, y, strict=True)) / total
    spread = added(a * (c - mean) ** 2 for a, c in zip(w, y, strict=True)) / total
    expected = {
        RegressionError.MSE: number(squares),
        RegressionError.RMSE: root(squares),
        RegressionError.MAE: number(
            added(a * abs(b - c) for a, b, c in zip(w, p, y, strict=True)) / total
        ),
        RegressionError.R2: number(1 - squares / spread) if spread else math.nan,
    }
    for error, right in expected.items():
        found = score(
            "regression_errors", {"error": error},
            predictions=predictions, targets=targets, weights=weights,
        )  # fmt: skip
        assert found.outputs[error.value] == pytest.approx(right, rel=1e-12, abs=0, nan_ok=True)
        assert (found.value is None) == (not math.isfinite(right))
        assert found.is_nonfinite == math.isinf(right)


def number(exactly: Fraction) -> float:
    try:
        return float(exactly)
    except OverflowError:
        return math.inf if exactly > 0 else -math.inf


def root(exactly: Fraction) -> float:
    power = 2048
    scaled = exactly * Fraction(4) ** power
    return number(Fraction(math.isqrt(scaled.numerator // scaled.denominator), 2**power))


def test_outputs_have_a_mean_where_their_sum_is_beyond_the_largest_number() -> None:
    given: Data = {"predictions": [[1.5e308, 1.7e308]], "targets": [[0.0, 0.0]]}
    found = score("regression_errors", {"error": RegressionError.MAE}, **given)
    assert found.value == exact(1.6e308)


@pytest.mark.parametrize(
    ("gain", "largest"), [(RetrievalGain.EXPONENTIAL, 1e6), (RetrievalGain.LINEAR, 1e6)]
)
def test_gains_of_any_size(gain: RetrievalGain, largest: float) -> None:
    def of(relevances: list[float], weights: list[float] | None = None) -> Score:
        scores = [[float(len(relevances) - i) for i in range(len(relevances))]]
        given = {"predictions": scores, "targets": [relevances], "weights": weights}
        return score("retrieval_at_k", {"gain": gain}, **given)

    for relevances in ([1023.0] * 4, [largest] * 4, [5e-324] * 4, [1e-310, 1e-310]):
        assert of(relevances).value == 1.0
        assert of(relevances, [1e308]).value == exact(of(relevances).value)
    second = 1 / math.log2(3)
    assert of([5e-324, 1e-323]).value == exact((1 + 2 * second) / (2 + second))
    assert of([1e-17, 2e-17]).value == exact((1 + 2 * second) / (2 + second))
    if gain is RetrievalGain.EXPONENTIAL:
        for high in (600.0, 1100.0, 1e5):
            assert of([high - 1, high]).value == exact((1 + 2 * second) / (2 + second))


def test_counts_beyond_the_largest_number_are_said() -> None:
    given: Data = {"predictions": [0, 0, 1], "targets": [0, 0, 1], "weights": [1e308, 1e308, 1]}
    found = score("confusion_matrix", **given)
    assert found.is_nonfinite
    assert found.reason == "it is beyond the largest number"
    for normalization in (Normalization.TARGETS, Normalization.PREDICTIONS):
        found = score("confusion_matrix", {"normalization": normalization}, **given)
        assert values_of(found).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    heavy = merged([state("f1", **given)] * 3)
    assert score_of("f1", [heavy]).value == 1.0


# ------------------------------------------------------------------ nothing above 1

PERFECT: list[tuple[str, Data]] = [
    ("roc_auc", {}),
    ("roc_auc", {"max_fpr": 0.3}),
    ("roc_auc", {"max_fpr": 5e-324}),
    ("average_precision", {}),
    *((name, {}) for name in ("accuracy", "precision", "recall", "f1", "matthews_correlation")),
    *(("f_beta", {"beta": beta}) for beta in (0.1, 0.7, 1.3, 3.1)),
]


@pytest.mark.parametrize(("name", "parameters"), PERFECT)
def test_what_is_perfect_has_1_to_the_bit(name: str, parameters: Data) -> None:
    random = np.random.default_rng(13)
    for _ in range(100):
        count = int(random.integers(2, 40))
        targets = random.permutation(np.arange(count) % 2)
        given: Data = {
            "predictions": targets - 0.5 + random.uniform(-0.4, 0.4, count),
            "targets": targets,
            "weights": random.random(count) if random.integers(4) else None,
        }
        assert score(name, parameters, **given).value == 1.0


@pytest.mark.parametrize("gain", RetrievalGain)
def test_documents_of_equal_gains_are_in_the_best_order(gain: RetrievalGain) -> None:
    random = np.random.default_rng(14)
    for relevance in (0.1, 0.3, 1.7, 1e-300, 600.1):
        for _ in range(20):
            count, k = random.integers(1, 30, 2)
            scores = random.integers(0, 3, (1, count)) / 2
            found = score(
                "retrieval_at_k", {"k": int(k), "gain": gain},
                predictions=scores, targets=np.full((1, count), relevance),
            )  # fmt: skip
            assert found.value == 1.0
            almost = relevance * (1 + random.integers(0, 3, (1, count)) * 2.0**-52)
            found = score(
                "retrieval_at_k", {"k": int(k), "gain": gain}, predictions=scores, targets=almost
            )
            assert found.value is not None
            assert found.value <= 1.0


# ------------------------------------------------------------------ what is not finite


def is_lost(name: str, parameters: Data, **data: Any) -> bool:
    """Whether the first of three examples is counted as not finite, alone and merged."""
    data = {key: np.asarray(each) for key, each in data.items()}
    pieces = [state(name, parameters, **part(data, np.array([i]))) for i in range(3)]
    for kept in (state(name, parameters, **data), merged(pieces)):
        found = score_of(name, [kept], parameters)
        if kept.nonfinite_count == 0:
            return False
        assert kept.nonfinite_count == 1
        assert (found.value, found.is_nonfinite) == (None, True)
        assert found.reason == "1 of 3 examples are not finite"
    one = requested(name, {})
    ((_, read),) = evaluation_state.read([evaluation_state.write([one], [kept])], [one])
    assert read.nonfinite_count == 1
    return True


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_a_score_that_is_not_a_number_is_counted(name: str, dtype: Any) -> None:
    scores = np.array([[np.nan, 0, 1], [0, 1, 2], [1, 0, 2]]).astype(dtype)
    several = name in ("retrieval_at_k", "regression_errors")
    targets = np.eye(3) if several else np.array([0, 1, 2])
    assert is_lost(name, {}, predictions=scores, targets=targets)
    weighted = np.array([0.0, 1.0, 2.0])
    found = state(name, {}, predictions=scores, targets=targets, weights=weighted)
    assert found.nonfinite_count == 0
    masked = np.array([False, True, True])
    mask = np.repeat(masked[:, None], 3, axis=1) if name == "retrieval_at_k" else masked
    assert state(name, predictions=scores, targets=targets, mask=mask).nonfinite_count == 0


SOFTMAX = ("roc_auc", "average_precision", "log_loss", "brier", "calibration_error", "perplexity")


@pytest.mark.parametrize("name", SOFTMAX)
@pytest.mark.parametrize("row", [[np.inf, 0, 1], [np.inf, np.inf, 0], [-np.inf] * 3])
def test_infinite_logits_without_probabilities_are_counted(name: str, row: list[float]) -> None:
    scores = np.array([row, [0.0, 1.0, 2.0], [1.0, 0.0, 2.0]])
    assert is_lost(name, {}, predictions=scores, targets=np.array([0, 1, 2]))


def test_what_makes_a_number_infinite_is_counted_though_predictions_are_finite() -> None:
    log = {"prediction_kind": DistributionKind.LOG_PROBABILITIES}
    assert is_lost("log_loss", log, predictions=[0.0, -1.0, -1.0], targets=[0, 1, 0])
    targets = [np.inf, 1.0, 2.0]
    assert is_lost("regression_errors", {}, predictions=[0.0, 1.0, 2.0], targets=targets)


def test_a_class_that_is_impossible_comes_last() -> None:
    scores = np.array([[-np.inf, 0.0, 1.0], [0.0, 1.0, 5.0], [9.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    finite = np.where(np.isinf(scores), -1e3, scores)
    for name in ("roc_auc", "average_precision"):
        for average in Average:
            found, expected = (
                score(name, {"average": average}, predictions=each, targets=[1, 2, 0, 0])
                for each in (scores, finite)
            )
            assert same(found, expected)


POOL = [-np.inf, -np.inf, -1.7e308, -800.0, -1.0, 0.0, 0.0, 2.0, 3.0, 1.7e308]


def odds(row: Sequence[float], column: int) -> float:
    """log(p / (1 - p)) of a class, the largest number where it is beyond that."""
    others = [mpmath.mpf(x) for i, x in enumerate(row) if i != column and x > -math.inf]
    if row[column] == -math.inf or not others:
        return math.inf if row[column] > -math.inf else -math.inf
    with mpmath.workdps(700):
        exactly = mpmath.mpf(row[column]) - mpmath.log(mpmath.fsum(map(mpmath.exp, others)))
    return float(min(max(exactly, -LARGEST), LARGEST))


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_rows_of_possible_and_impossible_classes_are_ranked(classes: int) -> None:
    random = np.random.default_rng(classes)
    count = 12 * classes
    rows = random.choice(POOL, (count, classes))
    lone = np.where(np.eye(classes) == 1, 1.0, -np.inf)
    rows[: 2 * classes] = np.concatenate([lone, lone[::-1]])
    rows[rows.max(axis=1) == -np.inf] = 0.0
    targets = random.permutation(np.arange(count) % classes)
    found = np.array([[odds(row, c) for c in range(classes)] for row in rows.tolist()])
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in found.T], axis=1)
    for name in ("roc_auc", "average_precision"):
        oracle = getattr(metrics, f"{name}_score")
        of_each = score(name, {"average": Average.NONE}, predictions=rows, targets=targets)
        expected = [oracle(targets == c, ranks[:, c]) for c in range(classes)]
        np.testing.assert_allclose(values_of(of_each), expected, rtol=1e-12)


# ------------------------------------------------------------------ confident answers


@pytest.mark.parametrize("offset", [0.0, 40.0, 400.0, 4000.0])
@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_confident_logits_of_classes_do_not_tie(name: str, offset: float) -> None:
    random = np.random.default_rng(int(offset))
    margins, targets = random.permutation(12) * 10.0 + offset, random.integers(0, 2, 12)
    targets[:2] = [0, 1]
    of_classes = np.stack([np.zeros(12), margins], axis=1)
    each = {"average": Average.NONE}
    found = values_of(score(name, each, predictions=of_classes, targets=targets))
    for column, sign in ((1, 1), (0, -1)):
        alone = score(name, predictions=sign * margins, targets=targets == column)
        assert found[column] == alone.value


@pytest.mark.parametrize("average", [Average.MICRO, Average.MACRO, Average.WEIGHTED])
@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_equal_probabilities_of_classes_tie(name: str, average: Average) -> None:
    random = np.random.default_rng(8)
    oracle = getattr(metrics, f"{name}_score")
    for _ in range(10):
        logits, targets = random.integers(-3, 4, (25, 4)), np.arange(25) % 4
        shares = np.round(softmax(logits, axis=1), 13)  # many are equal in other places of a row
        truths = np.eye(4, dtype=int)[targets]
        found = score(name, {"average": average}, predictions=logits * 1.0, targets=targets)
        assert found.value == exact(oracle(truths, shares, average=average.value))


def test_probabilities_are_clipped_by_the_rounding_of_their_own_type() -> None:
    rounding = {np.float16: 2.0**-10, ml_dtypes.bfloat16: 2.0**-7, np.float32: 2.0**-23}
    for dtype, e in {**rounding, np.float64: 2.0**-52}.items():
        given: Data = {"predictions": np.array([0.0, 1.0]).astype(dtype), "targets": [1, 1]}
        expected = (-math.log(e) - math.log1p(-e)) / 2
        assert score("log_loss", PROBABILITIES, **given).value == exact(expected)
        rows = np.array([[1.0, 0.0], [0.0, 1.0]]).astype(dtype)
        for name, make in (("log_loss", float), ("perplexity", math.exp)):
            found = score(name, PROBABILITIES, predictions=rows, targets=[1, 1]).value
            assert found == exact(make(expected))
