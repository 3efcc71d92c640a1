"""Ranking, probabilities and regression against scikit-learn."""

from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from sklearn import metrics
from sklearn.calibration import calibration_curve

from lossd.evaluation import METRICS, InputError
from lossd.evaluation import retrieval_at_k as retrieval
from lossd.evaluation._averages import Average
from lossd.evaluation.calibration_error import CalibrationNorm
from lossd.evaluation.regression_errors import RegressionError
from lossd.evaluation.retrieval_at_k import NoRelevant, RetrievalGain, RetrievalMeasure
from lossd.evaluation.roc_auc import Multiclass
from lossd.losses import DistributionKind, ParameterError
from tests.evaluation.run import batch, score, value, values_of

PROBABILITIES = {"prediction_kind": DistributionKind.PROBABILITIES}
DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]
AVERAGES = [Average.MICRO, Average.MACRO, Average.WEIGHTED]


def exact(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-12, abs=1e-14)


def binary(seed: int, *, levels: int = 0, count: int = 200) -> tuple[Any, Any, Any]:
    """Targets, scores and weights; with few levels most scores are tied."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, levels, count) / 4 if levels else random.standard_normal(count)
    return random.integers(0, 2, count), scores, random.uniform(0.1, 2, count)


@pytest.mark.parametrize("levels", [0, 2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_scores(levels: int, *, weighted: bool) -> None:
    for seed in range(8):
        targets, scores, weights = binary(seed, levels=levels)
        weights = weights if weighted else None
        given = {"predictions": scores, "targets": targets, "weights": weights}
        assert value("roc_auc", **given) == exact(
            metrics.roc_auc_score(targets, scores, sample_weight=weights)
        )
        assert value("average_precision", **given) == exact(
            metrics.average_precision_score(targets, scores, sample_weight=weights)
        )
        for max_fpr in (0.01, 0.3, 1.0):
            assert value("roc_auc", {"max_fpr": max_fpr}, **given) == exact(
                metrics.roc_auc_score(targets, scores, sample_weight=weights, max_fpr=max_fpr)
            )


def test_large_logits_do_not_tie() -> None:
    assert value("roc_auc", predictions=[40.0, 50.0, 60.0], targets=[0, 1, 1]) == 1.0
    assert value("roc_auc", predictions=[-np.inf, 0.0, np.inf], targets=[0, 1, 1]) == 1.0
    assert value("roc_auc", predictions=np.zeros(9), targets=[0, 1, 1] * 3) == 0.5


@pytest.mark.parametrize("average", AVERAGES)
def test_classes_one_versus_the_rest(average: Average) -> None:
    random = np.random.default_rng(0)
    logits, targets = random.standard_normal((150, 4)), random.integers(0, 4, 150)
    weights, shares = random.uniform(0, 2, 150), softmax(logits, axis=1)
    given = {"predictions": shares, "targets": targets, "weights": weights}
    parameters = {"average": average, **PROBABILITIES}
    assert value("roc_auc", parameters, **given) == exact(
        metrics.roc_auc_score(
            targets, shares, multi_class="ovr", average=average.value, sample_weight=weights
        )
    )
    assert value("average_precision", parameters, **given) == exact(
        metrics.average_precision_score(
            targets, shares, average=average.value, sample_weight=weights
        )
    )
    from_logits = value("roc_auc", {"average": average}, predictions=logits, targets=targets)
    assert from_logits == pytest.approx(
        value("roc_auc", parameters, predictions=shares, targets=targets), rel=1e-6
    )


@pytest.mark.parametrize("average", [Average.MACRO, Average.WEIGHTED])
def test_classes_one_versus_one(average: Average) -> None:
    random = np.random.default_rng(1)
    shares = softmax(random.integers(0, 3, (90, 3)).astype(float), axis=1)
    targets = random.integers(0, 3, 90)
    parameters = {"average": average, "multiclass": Multiclass.ONE_VS_ONE, **PROBABILITIES}
    assert value("roc_auc", parameters, predictions=shares, targets=targets) == exact(
        metrics.roc_auc_score(targets, shares, multi_class="ovo", average=average.value)
    )
    for wrong in ({"weights": np.ones(90)}, {}):
        changed = parameters if wrong else parameters | {"average": Average.MICRO}
        with pytest.raises(ParameterError, match=" must be "):
            score("roc_auc", changed, predictions=shares, targets=targets, **wrong)
    missing = score("roc_auc", parameters, predictions=shares, targets=targets % 2)
    assert (missing.value, missing.reason) == (None, "targets hold none of class 2")


@pytest.mark.parametrize("average", [Average.MACRO, Average.WEIGHTED])
def test_many_pairs_of_classes_take_a_step_for_each_class(average: Average) -> None:
    """Of scores that tie often, of infinite ones and of classes of one example."""
    random, looks = np.random.default_rng(5), [0]
    shares = softmax(random.integers(0, 4, (200, 40)).astype(float), axis=1)
    targets = np.concatenate([np.arange(40), random.integers(0, 30, 160)])
    shares[5] = np.eye(40)[targets[5]]
    metric = METRICS["roc_auc"]
    complete = metric.complete(
        {"average": average, "multiclass": Multiclass.ONE_VS_ONE, **PROBABILITIES}
    )
    state = metric.observe(batch(predictions=shares, targets=targets), complete)
    found = metric.score(state, complete, lambda: looks.append(0))
    expected = metrics.roc_auc_score(targets, shares, multi_class="ovo", average=average.value)
    assert found.value == exact(expected)
    assert len(looks) < 200
    many = score("roc_auc", {"multiclass": Multiclass.ONE_VS_ONE}, **classes_of_one(50))
    assert many.value == exact(1.0)


def classes_of_one(count: int) -> dict[str, Any]:
    """As many classes as examples, each of which is told by infinite logits of the others."""
    logits = np.full((count, count), -np.inf)
    np.fill_diagonal(logits, 0.0)
    return {"predictions": logits, "targets": np.arange(count)}


@pytest.mark.parametrize("average", AVERAGES)
def test_labels(average: Average) -> None:
    random = np.random.default_rng(2)
    scores, targets = random.integers(0, 6, (80, 3)) / 2, random.integers(0, 2, (80, 3))
    weights = random.uniform(0, 2, 80)
    given = {"predictions": scores, "targets": targets, "weights": weights}
    for name in ("roc_auc", "average_precision"):
        oracle = getattr(metrics, f"{name}_score")
        expected = oracle(targets, scores, average=average.value, sample_weight=weights)
        assert value(name, {"average": average}, **given) == exact(expected)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
@pytest.mark.parametrize("weighted", [False, True])
def test_many_labels_have_the_numbers_that_each_has_alone(name: str, *, weighted: bool) -> None:
    """Those of few examples are computed together, those of many examples one by one."""
    random = np.random.default_rng(3)
    for examples, labels in ((3, 50), (40, 300), (70_000, 2)):
        scores = random.integers(-3, 4, (examples, labels)).astype(np.float32)
        scores[scores == 3], scores[scores == -3] = np.inf, -np.inf
        targets = random.integers(0, 2, (examples, labels)).astype(bool)
        targets[0], targets[1] = True, False
        weights = 2.0 ** random.integers(-9, 9, examples) * random.random(examples)
        beside: dict[str, Any] = {"weights": weights} if weighted else {}
        each = [
            value(name, predictions=scores[:, label], targets=targets[:, label], **beside)
            for label in range(labels)
        ]
        given = {"predictions": scores, "targets": targets, **beside}
        assert values_of(score(name, {"average": Average.NONE}, **given)) == exact(each)
        shares = np.average(targets, axis=0, weights=weights if weighted else None)
        oracle, finite = getattr(metrics, f"{name}_score"), scores.clip(-9, 9)
        for average, expected in (
            (Average.MACRO, np.mean(each)),
            (Average.WEIGHTED, np.average(np.array(each), weights=shares)),
        ):
            assert value(name, {"average": average}, **given) == exact(expected)
            assert expected == exact(
                oracle(targets, finite, average=average.value, sample_weight=beside.get("weights"))
            )


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_labels_of_weights_of_any_size_are_ranked(name: str, size: float) -> None:
    """Whose products leave the range of float64, also where those of one side are far smaller."""
    random = np.random.default_rng(4)
    scores, targets = random.integers(0, 9, (60, 20)), random.integers(0, 2, (60, 20))
    given = {"predictions": scores / 2, "targets": targets}
    weights = random.uniform(0.1, 2, 60)
    parameters = {"average": Average.WEIGHTED}
    right = value(name, parameters, weights=weights, **given)
    assert value(name, parameters, weights=weights * size, **given) == exact(right)
    one = {"predictions": scores[:, :1] / 2, "targets": targets[:, :1]}
    uneven = np.where(targets[:, 0], weights, weights / size)
    both = {"predictions": np.tile(scores[:, :1] / 2, 3), "targets": np.tile(targets[:, :1], 3)}
    alone = value(name, parameters, weights=uneven, **one)
    assert value(name, parameters, weights=uneven, **both) == exact(alone)


@pytest.mark.parametrize(("heavy", "light"), [(1e30, 1e-300), (3e5, 1e-320), (1e200, 1e-200)])
def test_a_light_example_counts_where_it_ranks_above_a_heavy_one(
    heavy: float, light: float
) -> None:
    scores, targets, weights = [0.1, 0.5, 0.9], [0, 1, 0], [heavy, light, light]
    alone = value("average_precision", predictions=scores, targets=targets, weights=weights)
    two, true = np.tile(scores, (2, 1)).T, np.tile(targets, (2, 1)).T
    both = value("average_precision", predictions=two, targets=true, weights=weights)
    assert both == alone == 0.5


@pytest.mark.parametrize("weighted", [False, True])
def test_there_is_no_step_for_each_of_many_labels(*, weighted: bool) -> None:
    random, looks = np.random.default_rng(4), [0]
    targets = np.arange(16)[:, None] % 2 * np.ones(5_000, int)
    metric = METRICS["roc_auc"]
    complete = metric.complete({"average": Average.WEIGHTED})
    weights = random.uniform(0.9, 1.1, 16) if weighted else None
    given = batch(
        predictions=random.standard_normal(targets.shape), targets=targets, weights=weights
    )
    found = metric.score(metric.observe(given, complete), complete, lambda: looks.append(1))
    assert found.value == pytest.approx(0.5, abs=0.01)
    assert len(looks) < 20


def test_what_has_one_class_only_is_not_defined() -> None:
    positive: dict[str, Any] = {"predictions": [0.1, 0.2], "targets": [1, 1]}
    assert score("roc_auc", **positive).reason == "targets hold no negative"
    assert value("average_precision", **positive) == 1.0
    negative: dict[str, Any] = {"predictions": [0.1, 0.2], "targets": [0, 0]}
    for name in ("roc_auc", "average_precision"):
        found = score(name, **negative)
        assert (found.value, found.reason) == (None, "targets hold no positive")
    found = score("roc_auc", predictions=[[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]], targets=[0, 1])
    assert found.value is None
    assert found.reason == "column 2: targets hold no positive"
    assert found.values is not None
    assert np.isnan(found.values).tolist() == [False, False, True]
    predictions = [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]
    given: dict[str, Any] = {"predictions": predictions, "targets": [[0, 1, 0], [1, 1, 0]]}
    lacking = score("roc_auc", **given)
    said = "column 1: targets hold no negative; column 2: targets hold no positive"
    assert (lacking.value, lacking.reason) == (None, said)
    precise = score("average_precision", **given)
    assert (precise.value, precise.reason) == (None, "column 2: targets hold no positive")
    assert values_of(precise)[:2].tolist() == [0.5, 1.0]


@pytest.mark.parametrize("weighted", [False, True])
def test_probabilities(*, weighted: bool) -> None:
    random = np.random.default_rng(3)
    logits, targets = random.standard_normal((100, 4)) * 3, random.integers(0, 4, 100)
    weights = random.uniform(0, 2, 100) if weighted else None
    shares = softmax(logits, axis=1)
    shares[:5] = np.eye(4)[:1]  # sure, and mostly wrong
    for name, oracle in (("log_loss", metrics.log_loss), ("brier", metrics.brier_score_loss)):
        assert value(
            name, PROBABILITIES, predictions=shares, targets=targets, weights=weights
        ) == exact(oracle(targets, shares, sample_weight=weights, labels=range(4)))
    chances = expit(logits[:, 0])
    yes = targets > 1
    for name, oracle in (("log_loss", metrics.log_loss), ("brier", metrics.brier_score_loss)):
        expected = oracle(yes, chances, sample_weight=weights)
        given: dict[str, Any] = {"targets": yes, "weights": weights}
        assert value(name, PROBABILITIES, predictions=chances, **given) == exact(expected)
        assert value(name, predictions=logits[:, 0], **given) == exact(expected)
        log = {"prediction_kind": DistributionKind.LOG_PROBABILITIES}
        assert value(name, log, predictions=np.log(chances), **given) == exact(expected)


def test_sure_answers_keep_their_digits() -> None:
    assert value("log_loss", predictions=[[40.0, 0.0]], targets=[0]) == pytest.approx(
        np.exp(-40.0), rel=1e-12
    )
    assert value("log_loss", predictions=[40.0], targets=[1]) == pytest.approx(np.exp(-40.0))
    wrong = score("log_loss", predictions=[[0.0, -np.inf]], targets=[1])
    assert wrong.value is None
    assert wrong.is_nonfinite


SIZES = [1e-300, 1e-20, 1e-9, 0.1, 0.69, 0.7, 1.0, 5.0, 20.0, 36.0, 37.0, 40.0, 100.0, 700.0]
SHARES = [2.0**-50, 2.0**-30, 0.125, 0.5]  # 1 less each is exact too
ANSWERS = {
    DistributionKind.LOGITS: [*SIZES, *(-x for x in SIZES)],
    DistributionKind.LOG_PROBABILITIES: [-x for x in SIZES],
    DistributionKind.PROBABILITIES: [*SHARES, *(1 - x for x in SHARES)],
}


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("kind", DistributionKind)
def test_the_log_loss_keeps_its_digits_at_any_confidence(
    kind: DistributionKind, target: int
) -> None:
    """Of one number for an answer, and of two classes that are as likely."""
    parameters, targets = {"prediction_kind": kind}, [target]
    for number in ANSWERS[kind]:
        with mpmath.workdps(400):
            of_yes, of_no = costs(kind, mpmath.mpf(number))
            expected = pytest.approx(float(of_yes if target else of_no), rel=1e-14, abs=0)
        other = {
            DistributionKind.LOGITS: 0.0,
            DistributionKind.LOG_PROBABILITIES: float(-of_no),
            DistributionKind.PROBABILITIES: 1 - number,
        }[kind]
        for predictions in ([number], [[other, number]]):
            found = value("log_loss", parameters, predictions=predictions, targets=targets)
            assert found == expected


def costs(kind: DistributionKind, number: Any) -> tuple[Any, Any]:
    """-log of the probability of yes, and of no."""
    if kind is DistributionKind.LOGITS:
        return mpmath.log(1 + mpmath.exp(-number)), mpmath.log(1 + mpmath.exp(number))
    yes = mpmath.exp(number) if kind is DistributionKind.LOG_PROBABILITIES else number
    return -mpmath.log(yes), -mpmath.log(1 - yes)


def test_perplexity_weighs_tokens_alike() -> None:
    random = np.random.default_rng(4)
    logits, tokens = random.standard_normal((3, 5, 7)), random.integers(0, 7, (3, 5))
    tokens[0, 1:] = -1
    logs = log_softmax(logits, axis=-1)
    chosen = [logs[i, j, tokens[i, j]] for i, j in np.argwhere(tokens >= 0)]
    found = value("perplexity", {"ignore_index": -1}, predictions=logits, targets=tokens)
    assert found == exact(np.exp(-np.mean(chosen)))


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_calibration(bins: int) -> None:
    random = np.random.default_rng(bins)
    chances = np.concatenate([random.uniform(0, 1, 200), [0.0, 1.0]])
    targets = random.random(len(chances)) < chances
    right, sure = calibration_curve(targets, chances, n_bins=bins)
    places = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], chances)
    shares = np.bincount(places, minlength=bins) / len(chances)
    gaps = np.abs(right - sure)
    for norm, expected in {
        CalibrationNorm.L1: (gaps * shares[shares > 0]).sum(),
        CalibrationNorm.L2: np.sqrt((gaps**2 * shares[shares > 0]).sum()),
        CalibrationNorm.MAX: gaps.max(),
    }.items():
        parameters = {"bins": bins, "norm": norm, **PROBABILITIES}
        assert value(
            "calibration_error", parameters, predictions=chances, targets=targets
        ) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_confidence_at_the_upper_edge_of_a_bin_is_in_it(dtype: Any) -> None:
    for bins in (2, 3, 5, 6, 10, 12, 15, 20, 49):
        edges = (np.arange(1, bins + 1) / bins).astype(dtype)
        for of_bin, edge in enumerate(edges):
            one = edge.reshape(1)
            found = score(
                "calibration_error", {"bins": bins, **PROBABILITIES}, predictions=one, targets=[1]
            )
            assert np.flatnonzero(~np.isnan(values_of(found))).tolist() == [of_bin]
    above = score(
        "calibration_error",
        {"bins": 2, **PROBABILITIES},
        predictions=np.array([0.504]).astype(dtype),
        targets=[1],
    )
    assert np.isnan(values_of(above)).tolist() == [True, False]


def test_probabilities_outside_of_their_range_are_refused() -> None:
    for name in ("log_loss", "brier", "calibration_error", "roc_auc"):
        with pytest.raises(InputError, match=r"predictions\[1\] must be in \[0, 1\], got 1.5"):
            score(name, PROBABILITIES, predictions=[0.5, 1.5], targets=[0, 1])


@pytest.mark.parametrize("shape", [(50,), (50, 3)])
@pytest.mark.parametrize("weighted", [False, True])
def test_regression(shape: tuple[int, ...], *, weighted: bool) -> None:
    random = np.random.default_rng(5)
    targets = random.standard_normal(shape)
    given = targets + random.standard_normal(shape)
    weights = random.uniform(0, 2, 50) if weighted else None
    oracles = {
        RegressionError.MSE: metrics.mean_squared_error,
        RegressionError.RMSE: metrics.root_mean_squared_error,
        RegressionError.MAE: metrics.mean_absolute_error,
        RegressionError.R2: metrics.r2_score,
    }
    for error, oracle in oracles.items():
        inputs = {"predictions": given, "targets": targets, "weights": weights}
        found = score("regression_errors", {"error": error}, **inputs)
        assert found.value == exact(oracle(targets, given, sample_weight=weights))
        assert found.reason == ""
        assert found.outputs[error.value] == found.value
        if len(shape) > 1:
            each = oracle(targets, given, sample_weight=weights, multioutput="raw_values")
            np.testing.assert_allclose(values_of(found), each, rtol=1e-12)


def test_the_spread_of_targets_far_from_0_loses_no_digit() -> None:
    random = np.random.default_rng(6)
    near = random.integers(0, 100, 50) / 8  # 1e15 + near is exact
    given = near + random.integers(-2, 3, 50) / 8
    r2 = {"error": RegressionError.R2}
    far = value("regression_errors", r2, predictions=1e14 + given, targets=1e14 + near)
    assert far == value("regression_errors", r2, predictions=given, targets=near)


def test_constant_targets_have_no_determination() -> None:
    r2 = {"error": RegressionError.R2}
    for predictions, targets in (([1.0, 2.0], [3.0, 3.0]), ([1.0], [1.0])):
        found = score("regression_errors", r2, predictions=predictions, targets=targets)
        assert (found.value, found.reason) == (None, "targets of an output are constant")
    infinite = score("regression_errors", predictions=[np.inf, 1.0], targets=[0.0, 1.0])
    assert infinite.is_nonfinite


@pytest.mark.parametrize("k", [1, 3, 20])
def test_ndcg(k: int) -> None:
    random = np.random.default_rng(7)
    relevances = random.integers(0, 4, (30, 12))
    scores = random.integers(0, 5, (30, 12)) / 2  # many ties
    weights = random.uniform(0.1, 2, 30)
    zero = {"k": k, "no_relevant": NoRelevant.ZERO}
    assert value("retrieval_at_k", zero, predictions=scores, targets=relevances) == exact(
        metrics.ndcg_score(relevances, scores, k=k)
    )
    assert value(
        "retrieval_at_k", zero, predictions=scores, targets=relevances, weights=weights
    ) == exact(metrics.ndcg_score(relevances, scores, k=k, sample_weight=weights))
    exponential = zero | {"gain": RetrievalGain.EXPONENTIAL}
    assert value("retrieval_at_k", exponential, predictions=scores, targets=relevances) == exact(
        metrics.ndcg_score(2**relevances - 1, scores, k=k)
    )


def test_the_other_measures_against_the_definitions() -> None:
    random = np.random.default_rng(8)
    scores, relevances = random.random((20, 9)), random.random((20, 9)) < 0.4
    relevances[:, 0] = True
    found = score("retrieval_at_k", {"k": 4}, predictions=scores, targets=relevances).outputs
    everything = score("retrieval_at_k", {"k": 9}, predictions=scores, targets=relevances).outputs
    mrr, mean_precision, recall = [], [], []
    for query, relevant in zip(scores, relevances, strict=True):
        ranked = relevant[np.argsort(-query)]
        hits = [rank for rank in range(4) if ranked[rank]]
        mrr.append(1 / (1 + hits[0]) if hits else 0)
        precisions = [ranked[: rank + 1].mean() for rank in hits]
        mean_precision.append(sum(precisions) / relevant.sum())
        recall.append(len(hits) / relevant.sum())
    assert found["mrr"] == exact(np.mean(mrr))
    assert found["map"] == exact(np.mean(mean_precision))
    assert found["recall"] == exact(np.mean(recall))
    assert everything["map"] == exact(
        np.mean(list(map(metrics.average_precision_score, relevances, scores)))
    )


@pytest.mark.parametrize("is_tied", [False, True])
def test_documents_that_do_not_exist_do_not_count(*, is_tied: bool) -> None:
    random = np.random.default_rng(9)
    scores, relevances = random.random((6, 8)), random.integers(0, 3, (6, 8))
    there = np.arange(8) < 5
    lowest = scores[:, :5].min(axis=1, keepdims=True)
    dirty = np.where(there, scores, lowest if is_tied else np.nan)
    for measure in RetrievalMeasure:
        parameters = {"k": 6, "measure": measure}
        assert value(
            "retrieval_at_k",
            parameters,
            predictions=dirty,
            targets=np.where(there, relevances, -7),
            mask=np.broadcast_to(there, (6, 8)),
        ) == exact(
            value(
                "retrieval_at_k", parameters, predictions=scores[:, :5], targets=relevances[:, :5]
            )
        )
    nothing = score("retrieval_at_k", predictions=[[1.0, 2.0]], targets=[[0, 0]])
    assert (nothing.value, nothing.reason) == (None, "no query has a relevant document")


@pytest.mark.parametrize("gain", RetrievalGain)
@pytest.mark.parametrize("measure", RetrievalMeasure)
def test_queries_have_the_same_bits_at_any_padding(
    measure: RetrievalMeasure, gain: RetrievalGain
) -> None:
    random = np.random.default_rng(10)
    parameters = {"k": 100, "measure": measure, "gain": gain}
    for count in (3, 6, 9, 17, 40, 130):
        scores = random.integers(0, 2 * count, (20, count)) / 8
        relevances = random.choice([0.0, 0.1, 0.7, 3.0], (20, count))
        alone = value("retrieval_at_k", parameters, predictions=scores, targets=relevances)
        for more in (1, 8, 200):
            side = ((0, 0), (int(random.integers(more + 1)), more))
            there = np.pad(np.ones((20, count), bool), side)
            padded = value(
                "retrieval_at_k",
                parameters,
                predictions=np.pad(scores, side, constant_values=1.0),
                targets=np.pad(relevances, side, constant_values=9.0),
                mask=there,
            )
            assert padded == alone


def test_a_query_that_is_left_out_takes_its_weight_along() -> None:
    mrr: Any = {"measure": RetrievalMeasure.MRR}
    given: dict[str, Any] = {"predictions": [[2.0, 1.0]] * 3, "targets": [[0, 0], [1, 0], [0, 1]]}
    found = value("retrieval_at_k", mrr, **given, weights=[5.0, 1.0, 3.0])
    assert found == exact((1 * 1 + 3 / 2) / 4)


@pytest.mark.parametrize("wrong", [-1.0, 1000001.0, np.nan])
def test_a_wrong_relevance_is_named_by_its_place_in_the_batch(wrong: float) -> None:
    """Not in what is left of it without queries of weight 0."""
    targets = [[0.0, 1.0], [0.0, 1e6], [0.0, wrong]]
    with pytest.raises(InputError) as caught:
        score("retrieval_at_k", predictions=[[1.0, 2.0]] * 3, targets=targets, weights=[0, 1, 1])
    assert str(caught.value) == f"targets[2, 1] must be in [0, 1000000], got {wrong}"


def test_a_mask_of_documents_is_checked_as_one_of_examples_is() -> None:
    given: dict[str, Any] = {"predictions": [[1.0, 2.0]], "targets": [[0.0, 1.0]]}
    for mask, field in (([[1, 1]], "mask.dtype"), ([True], "mask.shape")):
        with pytest.raises(InputError) as caught:
            score("retrieval_at_k", **given, mask=mask)
        assert caught.value.field == field
    names = ("predictions", "targets", "mask")
    nothing: dict[str, Any] = {name: np.zeros((0, 3)) for name in names}
    assert score("retrieval_at_k", **nothing).reason == "there is no example"


def test_one_query_may_have_more_documents_than_are_ranked_at_once() -> None:
    count = 2 * retrieval._BLOCK
    scores, targets = np.arange(count)[None] / 1, np.arange(count)[None] == count - 3
    parameters = {"measure": RetrievalMeasure.MRR}
    assert value("retrieval_at_k", parameters, predictions=scores, targets=targets) == 1 / 3
