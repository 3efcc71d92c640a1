"""What both clients say and send of metrics, without a server."""

from typing import Any

import numpy as np
import pytest

from lossd import tensors, v1
from lossd.client import InvalidRequestError, LossClient, ServerError, arguments, metrics

SURROGATES = [
    (v1.F1(), "SoftF1"),
    (v1.RocAuc(), "PairwiseAuc"),
    (v1.Accuracy(), "CrossEntropy"),
    (v1.Bleu(), "ExpectedRisk"),
]


@pytest.mark.parametrize(("metric", "surrogate"), SURROGATES)
def test_a_metric_given_as_a_loss_is_told_what_to_train_with(metric: Any, surrogate: str) -> None:
    name = metric.DESCRIPTOR.name
    with (
        LossClient("127.0.0.1:9") as client,  # nobody listens there
        pytest.raises(
            InvalidRequestError,
            match=rf"got the metric {name}: train with {surrogate}, and give {name} to evaluate",
        ),
    ):
        client.compute(metric, predictions=[1.0], targets=[1])


def test_a_loss_given_as_a_metric_is_refused() -> None:
    for wrong in (v1.Huber(), v1.F1, "f1", None):
        with pytest.raises(InvalidRequestError, match=r"metric must be a message"):
            metrics.listed(wrong)
    with pytest.raises(InvalidRequestError, match="metrics must be at least one"):
        metrics.listed([])


def test_every_metric_has_a_surrogate() -> None:
    kinds = v1.MetricSpec.DESCRIPTOR.oneofs_by_name["kind"].fields
    assert set(arguments.surrogates) == {field.name for field in kinds}


def sequences(**inputs: Any) -> dict[str, v1.NamedSequences]:
    request = metrics.build_request(metrics.listed(v1.Bleu()), inputs)
    return {named.name: named for named in request.batch.sequences}


def test_texts_travel_as_texts_and_their_groups_as_counts() -> None:
    sent = sequences(hypotheses=["a b", "c"], references=[["a", "b"], "c"])
    assert list(sent["hypotheses"].texts) == ["a b", "c"]
    assert not sent["hypotheses"].HasField("counts")
    assert list(sent["references"].texts) == ["a", "b", "c"]
    assert tensors.read(sent["references"].counts).tolist() == [2, 1]


def test_token_ids_travel_as_tensors() -> None:
    sent = sequences(
        hypotheses=[np.array([1, 2], np.uint8), []],
        references=[[[1], [2, 3]], [4, 5]],
    )
    assert tensors.read(sent["hypotheses"].tokens).tolist() == [1, 2]
    assert tensors.read(sent["hypotheses"].lengths).tolist() == [2, 0]
    assert tensors.read(sent["references"].tokens).tolist() == [1, 2, 3, 4, 5]
    assert tensors.read(sent["references"].lengths).tolist() == [1, 2, 2]
    assert tensors.read(sent["references"].counts).tolist() == [2, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"hypotheses": "one text"},
        {"hypotheses": 3},
        {"hypotheses": [[0.5]]},
        {"hypotheses": ["a", [1]]},
        {"references": [[[[1]]]]},
    ],
)
def test_what_is_no_sequence_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r" must be "):
        sequences(**wrong)


def test_states_are_bytes() -> None:
    for wrong in (b"bytes", "text", [b"bytes", "text"]):
        with pytest.raises(InvalidRequestError, match=r"^states must"):
            metrics.build_request((), {}, states=wrong)  # type: ignore[arg-type]  # wrong on purpose
    assert not metrics.build_request((), {}, states=[b"1"]).HasField("batch")


def test_a_reply_that_breaks_the_contract_is_the_servers_mistake() -> None:
    response = v1.EvaluateResponse(results=[v1.MetricResult(metric="f1")])
    response.results[0].values.dtype = v1.D_TYPE_FLOAT64
    with pytest.raises(ServerError, match="response must hold valid tensors"):
        metrics.read_results(response)
