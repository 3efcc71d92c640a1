"""Decisions against scikit-learn, with absent classes, weights and ties."""

import enum
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from sklearn import metrics

from lossd.evaluation import METRICS, ClassificationTask, InputError
from lossd.evaluation._averages import Average, ZeroDivision
from lossd.evaluation.accuracy import MultilabelAccuracy
from lossd.evaluation.confusion_matrix import Normalization
from lossd.losses import DistributionKind, ParameterError
from tests.evaluation.run import score, value, values_of

AVERAGES = [Average.MICRO, Average.MACRO, Average.WEIGHTED]
FAMILY = ["precision", "recall", "f1", "f_beta"]


def exact(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-12, abs=1e-14)


def classes(seed: int, *, count: int = 200) -> dict[str, Any]:
    """Labels of which some occur among the targets only, some among the predictions only."""
    random = np.random.default_rng(seed)
    return {
        "predictions": random.choice([0, 1, 2, 5, 8], count),
        "targets": random.choice([0, 1, 2, 3, 5], count),
        "weights": random.uniform(0, 3, count),
    }


def split(given: dict[str, Any]) -> tuple[Any, Any, Any]:
    return given["targets"], given["predictions"], given["weights"]


def by_scikit_learn(name: str, *arguments: Any, **options: Any) -> Any:
    if name == "f_beta":
        return metrics.fbeta_score(*arguments, beta=2, **options)
    return getattr(metrics, f"{name}_score")(*arguments, **options)


def parameters(name: str, **given: Any) -> dict[str, Any]:
    return {"beta": 2.0} | given if name == "f_beta" else given


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("weighted", [False, True])
def test_averages_over_classes(name: str, average: Average, *, weighted: bool) -> None:
    for seed in range(5):
        given = classes(seed)
        targets, predictions, weights = split(given)
        weights = weights if weighted else None
        given["weights"] = weights
        assert value(name, parameters(name, average=average), **given) == exact(
            by_scikit_learn(
                name, targets, predictions, average=average.value, sample_weight=weights,
                zero_division=0,
            )
        )  # fmt: skip


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("policy", ZeroDivision)
def test_zero_division_by_name(name: str, policy: ZeroDivision) -> None:
    stand_in = {"zero": 0.0, "one": 1.0, "exclude": np.nan}[policy.value]
    targets, predictions = [0, 0, 1, 2, 2], [0, 1, 1, 3, 3]
    for average in (*AVERAGES, Average.NONE):
        found = score(
            name,
            parameters(name, average=average, zero_division=policy),
            targets=targets,
            predictions=predictions,
        )
        expected = by_scikit_learn(
            name, targets, predictions, zero_division=stand_in,
            average=None if average is Average.NONE else average.value,
        )  # fmt: skip
        if average is Average.NONE:
            assert found.value is None
            np.testing.assert_allclose(values_of(found), expected, rtol=1e-12)
        else:
            assert found.value == exact(expected)
        undefined = name in ("precision", "recall") and average is not Average.MICRO
        assert ("0 / 0 for 1 of the classes" in found.reason) == undefined


def absent(random: np.random.Generator) -> tuple[ClassificationTask, dict[str, Any]]:
    """Classes or labels many of which targets, predictions or both have none of."""
    count, labels = int(random.integers(1, 9)), int(random.integers(2, 5))
    weights = random.choice([1e-3, 0.5, 1.0, 3.0], count) if random.integers(2) else None
    names = ("targets", "predictions")
    if random.integers(2):
        given = {name: random.choice(random.integers(0, 5, 2), count) for name in names}
        return ClassificationTask.MULTICLASS, {**given, "weights": weights}
    shares = random.choice([0.0, 0.3, 1.0], 2)
    yes = {n: random.random((count, labels)) < s for n, s in zip(names, shares, strict=True)}
    return ClassificationTask.MULTILABEL, {**yes, "weights": weights}


@pytest.mark.parametrize("policy", ZeroDivision)
@pytest.mark.parametrize("name", FAMILY)
def test_averages_over_classes_and_labels_that_are_absent(name: str, policy: ZeroDivision) -> None:
    stand_in = {"zero": 0.0, "one": 1.0, "exclude": np.nan}[policy.value]
    random = np.random.default_rng(FAMILY.index(name))
    for _ in range(200):
        task, given = absent(random)
        targets, predictions, weights = split(given)
        for average in AVERAGES:
            chosen = parameters(name, task=task, average=average, zero_division=policy)
            found = score(name, chosen, **given)
            expected = by_scikit_learn(
                name, targets, predictions, average=average.value, sample_weight=weights,
                zero_division=stand_in,
            )  # fmt: skip
            if np.isnan(expected):
                assert found.value is None
                assert found.reason.startswith("0 / 0 for ")
            else:
                assert found.value == exact(expected)


def test_without_any_target_a_weighted_average_is_a_plain_one() -> None:
    weighted = {"task": ClassificationTask.MULTILABEL, "average": Average.WEIGHTED}
    never: dict[str, Any] = {"targets": [[0, 0], [0, 0]], "predictions": [[1, 0], [0, 0]]}
    as_one = {**weighted, "zero_division": ZeroDivision.ONE}
    assert (value("f1", as_one, **never), value("recall", as_one, **never)) == (0.5, 1.0)
    excluded = {**weighted, "zero_division": ZeroDivision.EXCLUDE}
    assert value("precision", excluded, **never) == 0.0
    nowhere = score("recall", excluded, **never)
    assert nowhere.value is None
    assert nowhere.reason == "0 / 0 for 2 of the classes, the first of them 0"


def test_weights_beside_that_of_a_far_heavier_class_that_is_excluded() -> None:
    found = value(
        "precision",
        {"average": Average.WEIGHTED, "zero_division": ZeroDivision.EXCLUDE},
        targets=[0, 1, 2, 2],
        predictions=[3, 1, 2, 1],  # never 0
        weights=[1e300, 1e-100, 1e-100, 1e-100],
    )
    assert found == exact((1 * 1 / 2 + 2 * 1) / 3)


@pytest.mark.parametrize("name", FAMILY)
def test_a_binary_task_is_about_class_1(name: str) -> None:
    random = np.random.default_rng(0)
    targets, logits = random.integers(0, 2, 100), random.standard_normal(100)
    expected = by_scikit_learn(name, targets, logits > 0)
    assert value(name, parameters(name), predictions=logits, targets=targets) == exact(expected)
    assert value(
        name,
        parameters(name, prediction_kind=DistributionKind.PROBABILITIES),
        predictions=1 / (1 + np.exp(-logits)),
        targets=targets,
    ) == exact(expected)
    assert value(
        name,
        parameters(name, task=ClassificationTask.BINARY),
        predictions=(logits > 0).astype(np.uint8),
        targets=targets.astype(bool),
    ) == exact(expected)
    assert value(
        name, parameters(name, threshold=0.3), predictions=logits, targets=targets
    ) == exact(by_scikit_learn(name, targets, logits > 0.3))


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", FAMILY)
def test_labels(name: str, average: Average) -> None:
    random = np.random.default_rng(1)
    targets, logits = random.integers(0, 2, (50, 4)), random.standard_normal((50, 4))
    targets[:, 2], logits[:, 3] = 0, -1  # a label that never is, and one never predicted
    weights = random.uniform(0, 1, 50)
    assert value(
        name,
        parameters(name, average=average),
        predictions=logits,
        targets=targets,
        weights=weights,
    ) == exact(
        by_scikit_learn(
            name, targets, logits > 0, average=average.value, sample_weight=weights,
            zero_division=0,
        )
    )  # fmt: skip


@pytest.mark.parametrize("average", Average)
@pytest.mark.parametrize("name", FAMILY)
def test_a_single_label_has_the_value_and_the_values_of_one_among_several(
    name: str, average: Average
) -> None:
    chosen = parameters(name, average=average)
    for targets in ([[1], [0], [1]], [[0], [0], [0]]):
        of_one: dict[str, Any] = {"predictions": [[1.0], [1.0], [-1.0]], "targets": targets}
        of_two = {key: np.repeat(each, 2, axis=1) for key, each in of_one.items()}
        found, expected = score(name, chosen, **of_one), score(name, chosen, **of_two)
        assert found.value == expected.value
        assert (found.values is None) == (expected.values is None) == (average is Average.MICRO)
        if average is not Average.MICRO:
            assert values_of(found).tolist() == values_of(expected)[:1].tolist()
    one: dict[str, Any] = {"predictions": [[1.0], [1.0], [-1.0]], "targets": [[1], [0], [1]]}
    assert values_of(score("f1", {"average": Average.MACRO}, **one)).tolist() == [0.5]


def test_no_positive_anywhere_is_said_and_not_only_0() -> None:
    found = score("f1", predictions=[-1.0, -2.0], targets=[0, 0])
    assert found.value == 0.0
    assert found.reason == "0 / 0 for 1 of the classes, the first of them 1"
    excluded = {"zero_division": ZeroDivision.EXCLUDE}
    assert score("f1", excluded, predictions=[-1.0], targets=[0]).value is None


def test_accuracy_of_classes() -> None:
    for seed in range(5):
        given = classes(seed)
        targets, predictions, weights = split(given)
        assert value("accuracy", **given) == exact(
            metrics.accuracy_score(targets, predictions, sample_weight=weights)
        )
        recalls = metrics.recall_score(
            targets, predictions, sample_weight=weights, average=None, labels=[0, 1, 2, 3, 5]
        )
        assert value("accuracy", {"balanced": True}, **given) == exact(recalls.mean())


@pytest.mark.parametrize("top_k", [1, 2, 5, 9])
def test_top_k(top_k: int) -> None:
    random = np.random.default_rng(top_k)
    logits, targets = random.standard_normal((300, 7)), random.integers(0, 7, 300)
    weights = random.uniform(0, 1, 300)
    if top_k < 7:
        expected = metrics.top_k_accuracy_score(
            targets, logits, k=top_k, labels=range(7), sample_weight=weights
        )
    else:
        expected = 1.0
    found = value(
        "accuracy", {"top_k": top_k}, predictions=logits, targets=targets, weights=weights
    )
    assert found == exact(expected)


def test_of_equal_scores_the_lowest_class_comes_first() -> None:
    tied: dict[str, Any] = {"predictions": np.ones((3, 3), np.float32), "targets": [0, 1, 2]}
    assert value("accuracy", **tied) == 1 / 3
    assert value("accuracy", {"top_k": 2}, **tied) == 2 / 3


def test_accuracy_of_labels() -> None:
    random = np.random.default_rng(2)
    targets, logits = random.integers(0, 2, (60, 3)), random.standard_normal((60, 3))
    weights = random.uniform(0, 1, 60)
    for given in (None, weights):
        assert value("accuracy", predictions=logits, targets=targets, weights=given) == exact(
            metrics.accuracy_score(targets, logits > 0, sample_weight=given)
        )
    each = {"multilabel": MultilabelAccuracy.ELEMENTWISE}
    assert value("accuracy", each, predictions=logits, targets=targets, weights=weights) == exact(
        1 - metrics.hamming_loss(targets, logits > 0, sample_weight=weights)
    )


def test_the_confusion_matrix() -> None:
    given = classes(3)
    targets, predictions, weights = split(given)
    for normalization in Normalization:
        name = {"none": None, "targets": "true", "predictions": "pred", "all": "all"}
        expected = metrics.confusion_matrix(
            targets, predictions, labels=range(9), sample_weight=weights,
            normalize=name[normalization.value],
        )  # fmt: skip
        found = score("confusion_matrix", {"normalization": normalization}, **given)
        assert found.value is None
        assert found.values is not None
        # scikit-learn says 0 where there is nothing to divide
        np.testing.assert_allclose(np.nan_to_num(found.values), expected, rtol=1e-12)
        assert bool(found.reason) == bool(np.isnan(found.values).any())


def test_a_confusion_matrix_has_at_most_2048_classes_or_labels() -> None:
    few: dict[str, Any] = {"predictions": [0, 2047], "targets": [0, 1]}
    assert values_of(score("confusion_matrix", {"classes": 2048}, **few)).shape == (2048, 2048)
    with pytest.raises(ParameterError, match=r"^classes must be in \[2, 2048\], got 2049$"):
        score("confusion_matrix", {"classes": 2049}, **few)
    many: list[dict[str, Any]] = [
        {"predictions": [0, 2048], "targets": [0, 1]},
        {"predictions": np.zeros((1, 2049)), "targets": [0]},
        {"predictions": np.zeros((1, 2049)), "targets": np.zeros((1, 2049), bool)},
    ]
    for given in many:
        with pytest.raises(InputError, match="must be at most 2048 for a matrix, got 2049"):
            score("confusion_matrix", **given)


def test_the_confusion_matrix_of_labels() -> None:
    random = np.random.default_rng(4)
    targets, logits = random.integers(0, 2, (40, 3)), random.standard_normal((40, 3))
    weights = random.uniform(0, 1, 40)
    found = score("confusion_matrix", predictions=logits, targets=targets, weights=weights)
    expected = metrics.multilabel_confusion_matrix(targets, logits > 0, sample_weight=weights)
    assert found.values is not None
    np.testing.assert_allclose(values_of(found), expected, rtol=1e-12)


def test_matthews_correlation() -> None:
    for seed in range(5):
        given = classes(seed)
        targets, predictions, weights = split(given)
        assert value("matthews_correlation", **given) == exact(
            metrics.matthews_corrcoef(targets, predictions, sample_weight=weights)
        )
        given["weights"] = None
        assert value("matthews_correlation", **given) == exact(
            metrics.matthews_corrcoef(targets, predictions)
        )
    found = score("matthews_correlation", predictions=[1, 1], targets=[0, 1])
    assert (found.value, found.reason) == (None, "predictions or targets are of one class only")


def test_an_ignored_or_weightless_example_changes_nothing_whatever_it_holds() -> None:
    for name in (*FAMILY, "accuracy", "matthews_correlation"):
        clean = score(name, predictions=[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], targets=[0, 1, 1])
        dirty: dict[str, Any] = {
            "predictions": [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [np.nan, np.inf]],
            "targets": [0, 1, 1, -100],
        }
        assert score(name, {"ignore_index": -100}, **dirty).value == clean.value
        for weight in (np.nan, -1):
            weights = [1, 1, 1, weight]
            found = score(name, {"ignore_index": -100}, weights=weights, **dirty)
            assert found.value == exact(clean.value)
        assert score(name, mask=[True, True, True, False], **dirty).value == clean.value
        assert score(name, weights=[1, 1, 1, 0], **dirty).value == exact(clean.value)


def test_a_prediction_that_is_not_a_number_is_not_counted_as_right() -> None:
    found = score("accuracy", predictions=[[np.nan, 1.0], [1.0, 0.0]], targets=[0, 0])
    assert found.value is None
    assert found.is_nonfinite
    assert found.reason == "1 of 2 examples are not finite"
    assert value("accuracy", predictions=[[-np.inf, 1.0], [np.inf, 0.0]], targets=[1, 0]) == 1.0


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64, np.int64])
def test_class_indices_of_any_integer_type(dtype: Any) -> None:
    given = classes(6)
    narrow: dict[str, Any] = {
        name: given[name].astype(dtype) for name in ("predictions", "targets")
    }
    given["weights"] = None
    assert value("f1", **narrow) == value("f1", **given)


def test_axes_beside_the_classes_hold_examples() -> None:
    random = np.random.default_rng(7)
    logits, targets = random.standard_normal((4, 5, 3)), random.integers(0, 3, (4, 5))
    flat: dict[str, Any] = {"predictions": logits.reshape(20, 3), "targets": targets.reshape(20)}
    assert value("f1", predictions=logits, targets=targets) == value("f1", **flat)


class Wrong(enum.Enum):
    """A caller may get much wrong, and is told what."""

    RANGE = ({"predictions": [[0.0, 1.0]], "targets": [2]}, r"targets\[0\] must be in \[0, 2\)")
    NEGATIVE = (
        {"predictions": [1, 0], "targets": [0, -1]},
        r"targets\[1\] must be in \[0, 1000000\)",
    )
    YES_NO = ({"predictions": [1.0], "targets": [3]}, r"targets\[0\] must be in \[0, 2\), got 3")
    SHAPE = ({"predictions": [1.0, 2.0], "targets": [[1], [0]]}, "targets must have the shape")
    BROADCAST = ({"predictions": [[1.0, 2.0]], "targets": [0, 1]}, "targets must have the shape")
    FLOATS = (
        {"predictions": [[1.0, 2.0]], "targets": [1.0]},
        "targets must be integers, got float64",
    )
    SHARES = (
        {"predictions": [1.0], "targets": [0.5]},
        r"targets\[0\] must be in \{0, 1\}, got 0.5",
    )
    NAN = (
        {"predictions": [1.0], "targets": [np.nan]},
        r"targets\[0\] must be in \{0, 1\}, got nan",
    )
    MASK = (
        {"predictions": [1.0], "targets": [1], "mask": [1]},
        "mask must be boolean, got int64",
    )
    MASK_SHAPE = (
        {"predictions": [1.0], "targets": [1], "mask": [True, True]},
        "mask must have the shape",
    )
    WEIGHT = (
        {"predictions": [1.0, 1.0], "targets": [1, 1], "weights": [1.0, np.nan]},
        r"weights\[1\] must be in \[0, inf\), got nan",
    )
    HUGE = ({"predictions": [2**62], "targets": [0]}, r"predictions\[0\] must be in \[0, 1000000\)")


@pytest.mark.parametrize("wrong", Wrong)
def test_wrong_inputs_are_refused(wrong: Wrong) -> None:
    given, message = wrong.value
    with pytest.raises(InputError, match=message):
        score("f1", **given)


def test_more_labels_than_may_be_are_refused() -> None:
    many = np.zeros((0, 1_000_001), np.float32)
    with pytest.raises(InputError, match="predictions must have at most 1000000 labels"):
        score("f1", predictions=many, targets=many)


@pytest.mark.parametrize("shape", [(40,), (20, 2)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ml_dtypes.bfloat16])
def test_yes_and_no_may_be_numbers(shape: tuple[int, ...], dtype: Any) -> None:
    random = np.random.default_rng(9)
    predictions, targets = random.standard_normal(shape), random.integers(0, 2, shape)
    for name in ("f1", "accuracy", "roc_auc"):
        expected = value(name, predictions=predictions, targets=targets)
        assert value(name, predictions=predictions, targets=targets.astype(dtype)) == expected


def test_classes_on_another_axis_are_guessed_where_there_is_one() -> None:
    fitting: dict[str, Any] = {
        "predictions": np.zeros((2, 3, 4)),
        "targets": np.zeros((2, 4), np.int64),
    }
    with pytest.raises(InputError, match=r"got \[2, 4\]: they would fit classes on axis 1"):
        score("f1", **fitting)
    flat: dict[str, Any] = {"predictions": np.zeros(2), "targets": np.zeros(2, np.int64)}
    with pytest.raises(InputError, match=r"targets must have the shape \[\] .*, got \[2\]$"):
        score("f1", {"task": ClassificationTask.MULTICLASS}, **flat)


def test_the_index_in_an_error_is_the_callers() -> None:
    with pytest.raises(InputError, match=r"targets\[2\] must"):
        score("f1", predictions=[[1.0, 0.0]] * 3, targets=[0, 9, 9], mask=[True, False, True])


OF_KINDS = [
    name
    for name, metric in METRICS.items()
    if any(parameter.name == "prediction_kind" for parameter in metric.all_parameters)
]


@pytest.mark.parametrize("name", OF_KINDS)
@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (DistributionKind.LOG_PROBABILITIES, 0.5),
        (DistributionKind.PROBABILITIES, 1.5),
        (DistributionKind.PROBABILITIES, -0.5),
    ],
)
def test_predictions_are_probabilities_in_their_form(
    name: str, kind: DistributionKind, wrong: float
) -> None:
    right = -1.0 if kind is DistributionKind.LOG_PROBABILITIES else 0.5
    predictions = np.full((4, 2), right)
    given = {"predictions": predictions, "targets": [0, 1, 1, 0]}
    chosen = parameters(name, prediction_kind=kind)
    expected = score(name, chosen, **given, mask=[True, False, True, True])
    predictions[1, 1] = wrong
    with pytest.raises(InputError, match=r"predictions\[1, 1\] must be in \["):
        score(name, chosen, **given)
    assert str(score(name, chosen, **given, mask=[True, False, True, True])) == str(expected)


Refused = tuple[dict[str, Any], dict[str, Any], str]
TASKS: dict[ClassificationTask, Refused] = {
    ClassificationTask.BINARY: (
        {"predictions": [0.5, np.nan, 0.25], "targets": [0, 1, 1]}, {"targets": [0, 2, 1]},
        r"targets\[1\] must be in \[0, 2\), got 2",
    ),
    ClassificationTask.MULTICLASS: (
        {"predictions": [[0.5, 0.5], [np.nan, 0.25], [0.25, 0.75]], "targets": [0, 1, 1]},
        {"targets": [0, 99, 1]}, r"targets\[1\] must be in \[0, 2\), got 99",
    ),
    ClassificationTask.MULTILABEL: (
        {"predictions": [[0.5, 0.5], [np.nan, 0.25]], "targets": [[0.0, 1.0], [1.0, 0.0]]},
        {"targets": [[0.0, 1.0], [1.0, 0.5]]}, r"targets\[1, 1\] must be in \{0, 1\}, got 0.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", OF_KINDS)
def test_what_is_beside_a_prediction_that_is_not_a_number_is_checked(
    name: str, task: ClassificationTask
) -> None:
    """As a loss checks it; only what does not count may be anything."""
    given, wrong_targets, message = TASKS[task]
    chosen = parameters(name, prediction_kind=DistributionKind.PROBABILITIES)
    if name != "perplexity":
        chosen["task"] = task
    elif task is not ClassificationTask.MULTICLASS:
        pytest.skip("it is of classes")
    try:
        assert score(name, chosen, **given).is_nonfinite
    except ParameterError:
        pytest.skip("it takes no labels")
    outside = np.array(given["predictions"])
    outside[-1 if outside.ndim == 1 else (1, 1)] = 1.5
    of_predictions = r"predictions\[(2|1, 1)\] must be in \[0, 1\], got 1.5"
    cases = [({**given, **wrong_targets}, message)]
    cases += [({**given, "predictions": outside}, of_predictions)]
    for wrong, expected in cases:
        with pytest.raises(InputError, match=expected):
            score(name, chosen, **wrong)
    count = len(given["targets"])
    silent = {**given, **wrong_targets}
    mask, weights = np.arange(count) != 1, (np.arange(count) != 1) * 1.0
    assert not score(name, chosen, **silent, mask=mask).is_nonfinite
    assert not score(name, chosen, **silent, weights=weights).is_nonfinite


def test_parameters_that_do_not_go_together_are_refused() -> None:
    several: dict[str, Any] = {"predictions": [[1.0, 0.0]], "targets": [0]}
    labels: dict[str, Any] = {"predictions": [[1.0, 0.0]], "targets": [[0, 1]]}
    wrong: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("accuracy", {"threshold": 0.5}, several),
        ("accuracy", {"classes": 3}, several),
        ("accuracy", {"top_k": 2}, labels),
        ("accuracy", {"balanced": True}, labels),
        ("accuracy", {"ignore_index": 0}, labels),
        ("matthews_correlation", {}, labels),
    ]
    for name, given, inputs in wrong:
        with pytest.raises(ParameterError, match=" must "):
            score(name, given, **inputs)
    with pytest.raises(ParameterError, match=r"top_k must be in \[1, 1000000\], got 0"):
        score("accuracy", {"top_k": 0}, **several)


LIMITS: list[tuple[DistributionKind, float]] = [
    *((DistributionKind.PROBABILITIES, limit) for limit in np.arange(1, 50) / 50),
    *((DistributionKind.LOGITS, limit) for limit in (-3.3, 0.1, 1e-30, 1e30)),
    (DistributionKind.LOG_PROBABILITIES, float(np.log(0.3))),
]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_a_score_at_the_threshold_is_no_in_every_type(dtype: Any) -> None:
    said = {"prediction_kind": DistributionKind.LOG_PROBABILITIES}
    half = np.log([0.5]).astype(dtype)
    assert value("accuracy", said, predictions=half, targets=[0]) == 1.0
    for kind, limit in LIMITS:
        with np.errstate(over="ignore"):
            at = np.array([limit]).astype(dtype)
        following = np.nextafter(at, np.array([np.inf]).astype(dtype), dtype=dtype)
        chosen = {"prediction_kind": kind, "threshold": limit}
        if np.isfinite(at.astype(np.float64)).all():
            assert value("accuracy", chosen, predictions=at, targets=[0]) == 1.0
            assert value("accuracy", chosen, predictions=following, targets=[1]) == 1.0


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_a_threshold_may_be_beyond_the_numbers_of_the_scores(dtype: Any) -> None:
    scores = np.array([-np.inf, -1e4, 0.0, 1e4, np.inf]).astype(dtype)
    targets = np.array([0, 1, 1, 1, 1])
    for threshold, above in ((1e300, [0, 0, 0, 0, 1]), (-1e300, [0, 1, 1, 1, 1])):
        found = value("accuracy", {"threshold": threshold}, predictions=scores, targets=targets)
        assert found == np.mean(np.array(above) == targets)
