"""A loss and metrics of the same batch in one call, through a server in another process."""

import asyncio
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd import v1
from lossd.client import (
    AsyncLossClient,
    InvalidRequestError,
    LossClient,
    MetricResult,
    OverloadedError,
    UnknownMetricError,
)
from lossd.evaluation import METRICS
from lossd.losses import LOSSES
from lossd.v1 import (
    F1,
    Accuracy,
    BinaryCrossEntropy,
    Bleu,
    ConfusionMatrix,
    CrossEntropy,
    Ctc,
    Dice,
    Distillation,
    FeatureMatching,
    Huber,
    Jaccard,
    Perplexity,
    RegressionErrors,
    RetrievalAtK,
    RocAuc,
    SquaredError,
)
from lossd.v1.losses import Loss
from tests.end_to_end.conftest import Process, metric


def yes_or_no(count: int) -> tuple[Loss, dict[str, Any]]:
    """Floating-point targets, which the loss wants."""
    random = np.random.default_rng(count)
    predictions = random.standard_normal(count).astype(np.float32)
    return BinaryCrossEntropy(), {
        "predictions": predictions,
        "targets": random.integers(0, 2, count).astype(np.float32),
    }


def of_classes(count: int) -> tuple[Loss, dict[str, Any]]:
    """Every class is a target and is predicted, so that no score is undefined."""
    random = np.random.default_rng(count)
    targets = random.permutation(np.arange(count) % 5)
    predictions = random.standard_normal((count, 5)) + 2 * np.eye(5)[targets]
    return CrossEntropy(), {"predictions": predictions.astype(np.float32), "targets": targets}


def of_numbers(count: int) -> tuple[Loss, dict[str, Any]]:
    """Numbers for a regression; non-negative ones, which are relevances too."""
    random = np.random.default_rng(count)
    predictions, targets = random.uniform(0, 3, (2, count, 4))
    return SquaredError(), {"predictions": predictions, "targets": targets}


MAKERS = {"regression_errors": of_numbers, "retrieval_at_k": of_numbers}
OF_TENSORS = [name for name, m in METRICS.items() if not any(i.is_text for i in m.inputs)]
OF_TEXT = [name for name in METRICS if name not in OF_TENSORS]


def same(left: MetricResult, right: MetricResult) -> bool:
    """To the bit, in every field; a NaN is itself."""
    return all(
        repr(getattr(left, name)) == repr(getattr(right, name)) for name in MetricResult.__slots__
    )


@pytest.mark.parametrize("count", [40, 20_000])  # of small messages and of framed ones
@pytest.mark.parametrize("name", OF_TENSORS)
def test_every_metric_of_tensors_has_the_bits_of_evaluate(
    client: LossClient, name: str, count: int
) -> None:
    asked = getattr(v1, METRICS[name].message)()
    makers = [MAKERS[name]] if name in MAKERS else [of_classes, yes_or_no]
    for make in makers[: 1 if name == "perplexity" else 2]:
        loss, inputs = make(count)
        random = np.random.default_rng(count + 1)
        beside: dict[str, Any] = {"weights": random.uniform(0, 2, count)}
        if name != "retrieval_at_k":  # whose mask is of documents
            beside["mask"] = random.random(count) < 0.8
        result = client.compute(loss, **inputs, **beside, metrics=[asked])
        (found,) = result.metrics
        expected = client.evaluate(asked, **inputs, **beside)
        assert expected.status is None
        assert same(found, expected)
        alone = client.compute(loss, **inputs, **beside)
        assert result.loss == alone.loss
        np.testing.assert_array_equal(result.per_example, alone.per_example)


def test_results_come_in_the_order_asked(client: LossClient) -> None:
    loss, inputs = of_classes(30)
    asked = [F1(), ConfusionMatrix(), Accuracy(top_k=2), Accuracy()]
    found = client.compute(loss, **inputs, metrics=asked).metrics
    assert [one.metric for one in found] == ["f1", "confusion_matrix", "accuracy", "accuracy"]
    expected = client.evaluate(asked, **inputs)
    assert all(map(same, found, expected))


def test_not_asking_gives_none_and_takes_no_time(client: LossClient) -> None:
    loss, inputs = of_classes(30)
    result = client.compute(loss, **inputs)
    assert result.metrics == []
    assert result.server_timing.evaluate == 0
    assert client.compute(loss, **inputs, metrics=[F1()]).server_timing.evaluate > 0


def test_the_ignore_index_of_the_loss_holds_for_its_metrics(client: LossClient) -> None:
    _, inputs = of_classes(50)
    inputs["targets"][::7] = -100
    mask = np.arange(50) % 5 != 0
    for kept in (None, mask):
        result = client.compute(
            CrossEntropy(ignore_index=-100), **inputs, mask=kept, metrics=[Accuracy(), Perplexity()]
        )
        asked = [Accuracy(ignore_index=-100), Perplexity(ignore_index=-100)]
        expected = client.evaluate(asked, **inputs, mask=kept)
        assert all(map(same, result.metrics, expected))
        assert result.metrics[0].ignored_count == result.ignored_count > 0
    # the loss of a mean is the logarithm of the perplexity, which proves the same examples count
    perplexity = result.metrics[1].value
    assert perplexity is not None
    assert np.log(perplexity) == pytest.approx(result.loss, rel=1e-6)


def test_one_example_without_axes_may_be_ignored(client: LossClient) -> None:
    result = client.compute(
        CrossEntropy(ignore_index=1),
        predictions=np.zeros(3, np.float32),
        targets=np.array(1),
        metrics=[Accuracy()],
    )
    assert (result.metrics[0].status, result.metrics[0].ignored_count) == ("UNDEFINED", 1)


def test_classes_lie_where_the_loss_has_them(client: LossClient) -> None:
    random = np.random.default_rng(7)
    predictions = random.standard_normal((3, 4, 5, 6)).astype(np.float32)
    targets = random.integers(0, 4, (3, 5, 6))
    last: dict[str, Any] = {"predictions": np.moveaxis(predictions, 1, -1), "targets": targets}
    expected = client.evaluate([Accuracy(), RocAuc()], **last)
    for loss in (CrossEntropy(class_axis=1), CrossEntropy(class_axis=-3), Dice(class_axis=1)):
        result = client.compute(
            loss, predictions=predictions, targets=targets, metrics=[Accuracy(), RocAuc()]
        )
        assert all(map(same, result.metrics, expected))


def test_answers_for_each_class_lie_where_the_loss_has_them(client: LossClient) -> None:
    random = np.random.default_rng(8)
    predictions = random.standard_normal((2, 4, 4, 4)).astype(np.float32)
    targets = random.integers(0, 2, predictions.shape)
    asked = F1(task=v1.CLASSIFICATION_TASK_MULTILABEL, average=v1.AVERAGE_NONE)
    expected = client.evaluate(
        asked, predictions=np.moveaxis(predictions, 1, -1), targets=np.moveaxis(targets, 1, -1)
    )
    for loss in (Dice(class_axis=1), Jaccard(class_axis=-3), CrossEntropy(class_axis=1)):
        result = client.compute(loss, predictions, targets, metrics=[asked])
        assert same(result.metrics[0], expected)


def test_a_shape_that_a_metric_refuses_is_the_one_that_was_sent(client: LossClient) -> None:
    logits, shares = np.zeros((2, 4, 3, 3), np.float32), np.ones((2, 4, 3, 3), np.int64)
    for axis, got in {
        1: r"got \[2, 3, 3, 4\] with the classes moved, sent as \[2, 4, 3, 3\], for the metric",
        -1: r"got \[2, 4, 3, 3\], for the metric",
    }.items():
        with pytest.raises(InvalidRequestError, match=got) as caught:
            client.compute(CrossEntropy(class_axis=axis), logits, shares, metrics=[Accuracy()])
        assert caught.value.field == "inputs.targets.shape"


def test_a_metric_takes_the_prediction_kind_of_the_loss(client: LossClient) -> None:
    kind = v1.DISTRIBUTION_KIND_PROBABILITIES
    predictions = np.array([0.2, 0.4, 0.6, 0.9], np.float32)
    inputs: dict[str, Any] = {
        "predictions": predictions,
        "targets": np.array([0, 0, 1, 1], np.float32),
    }
    loss = BinaryCrossEntropy(prediction_kind=kind)
    told = Accuracy(prediction_kind=v1.DISTRIBUTION_KIND_LOGITS)
    inherited, own = client.compute(loss, **inputs, metrics=[Accuracy(), told]).metrics
    assert (inherited.value, own.value) == (1.0, 0.5)  # said of a metric, it is that metric's


def test_targets_for_each_class_are_no_labels(client: LossClient) -> None:
    shares = np.eye(3, dtype=np.float32)
    with pytest.raises(InvalidRequestError, match="targets must be integers, got float32, for"):
        client.compute(CrossEntropy(), predictions=shares, targets=shares, metrics=[Accuracy()])


def test_bfloat16_is_taken(client: LossClient) -> None:
    loss, inputs = yes_or_no(20)
    halves = {name: array.astype(ml_dtypes.bfloat16) for name, array in inputs.items()}
    (found,) = client.compute(loss, **halves, metrics=[RocAuc()]).metrics
    assert same(found, client.evaluate(RocAuc(), **halves))


def test_what_is_not_defined_says_why_beside_a_loss(client: LossClient) -> None:
    found = client.compute(
        BinaryCrossEntropy(), predictions=[1.0, 2.0], targets=[1.0, 1.0], metrics=[RocAuc()]
    )
    assert found.loss is not None
    assert (found.metrics[0].value, found.metrics[0].status) == (None, "UNDEFINED")
    assert found.metrics[0].reason == "targets hold no negative"


ONE: dict[str, Any] = {"predictions": [1.0, 2.0], "targets": [0.5, 1.0]}
REFUSED: list[tuple[Loss, dict[str, Any], Any, str, str]] = [
    (Huber(), ONE, [F1(), Bleu()], "must take tensors, got Bleu", "metrics[1].bleu"),
    (Huber(), ONE, [Accuracy(top_k=0)], "top_k must be in", "metrics[0].accuracy.top_k"),
    (Huber(), ONE, [F1(), F1()], "metrics must be different, got F1 twice", "metrics[1]"),
    (
        Huber(), ONE, [RegressionErrors(), F1()],
        r"targets\[0\] must be in \{0, 1\}, got 0.5, for the metric F1", "inputs.targets",
    ),
    (
        Huber(), ONE, [RetrievalAtK()], "for the metric RetrievalAtK", "inputs.predictions.shape",
    ),
    (
        Huber(), {"predictions": [1.0]}, [F1()],
        "targets must be given for the metric F1, got nothing for Huber", "metrics[0].f1",
    ),
    (
        FeatureMatching(), {name: [np.zeros((2, 1))] * 2 for name in ONE}, [F1()],
        "predictions must be given as one tensor for the metric F1, got 2", "metrics[0].f1",
    ),
    (
        BinaryCrossEntropy(), {"predictions": [1.0], "targets": [1.0]},
        [Accuracy(top_k=2)], "top_k must be 1 unless", "metrics[0].accuracy.top_k",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "inputs", "metrics", "message", "field"), REFUSED)
def test_errors_name_the_metric_and_the_field(  # noqa: PLR0917 - pytest's
    client: LossClient, loss: Loss, inputs: Any, metrics: Any, message: str, field: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        client.compute(loss, **inputs, metrics=metrics)
    assert caught.value.field == field


def of_tokens() -> tuple[Loss, dict[str, Any]]:
    random = np.random.default_rng(9)
    predictions, targets = random.standard_normal((2, 2, 3, 4))
    loss = Distillation(
        divergence=v1.DISTILLATION_DIVERGENCE_FORWARD_KL,
        support=v1.DISTILLATION_SUPPORT_WHOLE,
        aggregation=v1.TOKEN_AGGREGATION_TOKEN_MEAN,
    )
    return loss, {"predictions": predictions, "targets": targets}


def of_frames() -> tuple[Loss, dict[str, Any]]:
    predictions = np.random.default_rng(10).standard_normal((2, 3, 4))
    return Ctc(), {"predictions": predictions, "targets": [[1, 2, 3], [3, 2, 1]]}


LEAVES_OUT: list[tuple[Callable[[], tuple[Loss, dict[str, Any]]], Any, str, Any]] = [
    (of_tokens, RegressionErrors(), "token_mask", [[True, True, False], [True, False, False]]),
    (of_tokens, RegressionErrors(), "lengths", [2, 1]),
    (of_frames, Accuracy(), "prediction_lengths", [3, 2]),
    (of_frames, Accuracy(), "target_lengths", [2, 1]),
]


@pytest.mark.parametrize(("make", "asked", "name", "said"), LEAVES_OUT)
def test_inputs_that_leave_out_elements_are_refused_beside_metrics(
    client: LossClient, make: Any, asked: Any, name: str, said: Any
) -> None:
    loss, inputs = make()
    (found,) = client.compute(loss, **inputs, metrics=[asked]).metrics
    assert same(found, client.evaluate(asked, **inputs))
    client.compute(loss, **inputs, **{name: said})
    with pytest.raises(InvalidRequestError, match=f"^{name} must be unset with metrics") as caught:
        client.compute(loss, **inputs, **{name: said}, metrics=[asked])
    assert caught.value.field == f"inputs.{name}"


def test_of_flat_tokens_metrics_count_each(client: LossClient) -> None:
    loss, inputs = of_tokens()
    flat = {name: array.reshape(6, 4) for name, array in inputs.items()}
    result = client.compute(loss, **flat, offsets=[0, 2, 6], metrics=[RegressionErrors()])
    assert same(result.metrics[0], client.evaluate(RegressionErrors(), **flat))


def test_of_every_input_it_is_decided_whether_metrics_go_beside_it() -> None:
    decided = {"predictions", "targets", "variances", "offsets", "groups"}
    decided |= {name for _, _, name, _ in LEAVES_OUT}
    for loss in LOSSES.values():
        names = {declared.name for declared in loss.inputs}
        assert not {"predictions", "targets"} <= names or names <= decided, loss.name


@pytest.mark.parametrize("name", OF_TEXT)
def test_metrics_of_text_are_for_evaluate(client: LossClient, name: str) -> None:
    asked = getattr(v1, METRICS[name].message)()
    with pytest.raises(InvalidRequestError, match=f"got {METRICS[name].message}, which takes"):
        client.compute(Huber(), **ONE, metrics=[asked])


def test_metrics_are_counted_and_known(client: LossClient) -> None:
    loss, inputs = of_classes(3)
    many = [Accuracy(top_k=k) for k in range(1, 34)]
    assert len(client.compute(loss, **inputs, metrics=many[:32]).metrics) == 32
    with pytest.raises(OverloadedError, match="metrics must have at most 32 entries, got 33"):
        client.compute(loss, **inputs, metrics=many)
    with pytest.raises(UnknownMetricError):
        client.compute(loss, **inputs, metrics=[v1.MetricSpec()])
    with pytest.raises(InvalidRequestError, match="must be a message of MetricSpec"):
        client.compute(loss, **inputs, metrics=[Huber()])  # type: ignore[arg-type]


def test_the_telemetry_counts_metrics_beside_a_loss(server: Process, client: LossClient) -> None:
    def counted() -> tuple[float, float]:
        return (
            metric(server, "lossd_evaluations_total", metric="brier", status="OK"),
            metric(server, "lossd_evaluated_examples_total", metric="brier"),
        )

    before = counted()
    loss, inputs = of_classes(11)
    client.compute(loss, **inputs, metrics=[v1.Brier()])
    assert counted() == (before[0] + 1, before[1] + 11)


def test_asyncio_asks_alike(server: Process, client: LossClient) -> None:
    loss, inputs = of_classes(9)
    expected = client.compute(loss, **inputs, metrics=[Accuracy(), F1()]).metrics

    async def ask() -> Any:
        async with AsyncLossClient(server.address) as other:
            return (await other.compute(loss, **inputs, metrics=[Accuracy(), F1()])).metrics

    assert all(map(same, asyncio.run(ask()), expected))
