"""Replies of metrics on either side of the size at which tensors travel beside the message.

Whatever brings a reply, one reader takes it: each way back is tried with each metric.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from lossd import framing, v1
from lossd.evaluation import METRICS, Metric
from lossd.framing import WORTHWHILE_BYTES
from tests.end_to_end.conftest import Process
from tests.end_to_end.test_evaluation import wire

Way = Callable[[Any, Any, Any], Any]


def at_once(client: Any, metric: Any, inputs: Any) -> Any:
    return client.evaluate(metric, **inputs)


def in_a_list(client: Any, metric: Any, inputs: Any) -> Any:
    return client.evaluate([metric], **inputs)[0]


def in_batches(client: Any, metric: Any, inputs: Any) -> Any:
    with client.evaluation(metric) as run:
        run.update(**inputs)
        return run.result()


def state_of(client: Any, metric: Any, inputs: Any) -> Any:
    with client.evaluation(metric, return_state=True) as run:
        run.update(**inputs)
        assert run.result().metric
        return run.state


def from_a_state(client: Any, metric: Any, inputs: Any) -> Any:
    return client.evaluate(metric, states=[state_of(client, metric, inputs)])


def from_a_merged_state(client: Any, metric: Any, inputs: Any) -> Any:
    with client.evaluation(metric) as run:
        run.merge(state_of(client, metric, inputs))
        return run.result()


WAYS = [at_once, in_a_list, in_batches, from_a_state, from_a_merged_state]
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(params=list(METRICS.values()), ids=list(METRICS))
def any_metric(request: pytest.FixtureRequest) -> Metric:
    found: Metric = request.param
    return found


@every_way
def test_every_metric_reads_alike_on_either_side_of_the_limit(
    server: Process, connect: Any, way: Way, any_metric: Metric, monkeypatch: Any
) -> None:
    with connect(server.address) as client:
        for example in any_metric.examples:
            message = getattr(v1, any_metric.message)(**wire(any_metric, example.parameters))
            monkeypatch.setattr(framing, "WORTHWHILE_BYTES", 0)
            found = way(client, message, example.inputs)
            monkeypatch.setattr(framing, "WORTHWHILE_BYTES", WORTHWHILE_BYTES)
            expected = at_once(client, message, example.inputs)
            if example.value is not None:
                assert found.value == pytest.approx(example.value, rel=1e-13)
            for name in ("value", "status", "reason", "example_count", "signature"):
                assert getattr(found, name) == getattr(expected, name)
            np.testing.assert_array_equal(found.values, expected.values)
            assert found.outputs.keys() == expected.outputs.keys()
            for name, output in expected.outputs.items():
                np.testing.assert_array_equal(found.outputs[name], output)


@every_way
@pytest.mark.parametrize("classes", [63, 64, 65, 181])
def test_a_confusion_matrix_of_any_size_is_scikit_learns(
    server: Process, connect: Any, way: Way, classes: int
) -> None:
    random = np.random.default_rng(classes)
    given = {name: random.integers(0, classes, 4000) for name in ("predictions", "targets")}
    with connect(server.address) as client:
        found = way(client, v1.ConfusionMatrix(classes=classes), given)
    expected = metrics.confusion_matrix(
        given["targets"], given["predictions"], labels=range(classes)
    )
    np.testing.assert_array_equal(found.values, expected)


@every_way
@pytest.mark.parametrize("size", [4070, 4100, 9000])
def test_scores_of_many_classes_are_scikit_learns(
    server: Process, connect: Any, way: Way, size: int
) -> None:
    random = np.random.default_rng(size)
    every = np.arange(2 * size) % size
    given = {"predictions": np.where(random.random(2 * size) < 0.5, every, every[::-1])}
    given["predictions"][:size] = every[:size]  # so that every class has a score
    given["targets"] = every
    labels = (given["targets"], given["predictions"])
    scores: list[tuple[Any, Any]] = [
        (v1.Precision, metrics.precision_score),
        (v1.Recall, metrics.recall_score),
        (v1.F1, metrics.f1_score),
    ]
    with connect(server.address) as client:
        for message, score in scores:
            found = way(client, message(classes=size, average=v1.AVERAGE_NONE), given)
            expected = score(*labels, labels=range(size), average=None, zero_division=0)
            np.testing.assert_allclose(found.values, expected, rtol=1e-12)


@every_way
@pytest.mark.parametrize("size", [4070, 4100])
def test_scores_of_many_sentences_are_one_each(
    server: Process, connect: Any, way: Way, size: int
) -> None:
    texts = ["a b c d e", "a b c d f"]
    given = {
        "hypotheses": [texts[number % 2] for number in range(size)],
        "references": [[texts[0]]] * size,
    }
    sentences = [
        v1.Bleu(level=v1.TEXT_LEVEL_SENTENCE, tokenizer=v1.BLEU_TOKENIZER_NONE),
        v1.Chrf(level=v1.TEXT_LEVEL_SENTENCE),
    ]
    with connect(server.address) as client:
        for message in sentences:
            found = way(client, message, given)
            assert found.values.shape == (size,)
            assert found.values[::2] == pytest.approx(100)
            assert (found.values[1::2] == found.values[1]).all()
            assert 0 < found.values[1] < 100


@pytest.mark.parametrize("columns", [4070, 4100])
def test_metrics_beside_a_loss_are_read_alike(server: Process, connect: Any, columns: int) -> None:
    random = np.random.default_rng(columns)
    predictions = random.standard_normal((8, columns)).astype(np.float32)
    targets = random.integers(0, columns, 8)
    asked = v1.Recall(average=v1.AVERAGE_NONE)
    with connect(server.address) as client:
        beside = client.compute(
            v1.CrossEntropy(), predictions=predictions, targets=targets, metrics=[asked]
        )
        alone = client.evaluate(asked, predictions=predictions, targets=targets)
    np.testing.assert_array_equal(beside.metrics[0].values, alone.values)
    assert alone.values.shape == (columns,)
