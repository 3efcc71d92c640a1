"""Metrics as both clients say and send them, without a server."""

from typing import Any

import numpy as np
import pytest

from lossd import tensors, v1
from lossd.client import InvalidRequestError, LossClient, ServerError, kinds, metrics
from lossd.framing import Framed

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
    for wrong in (v1.Huber(), v1.F1, 1, None):
        with pytest.raises(InvalidRequestError, match=r"metric must be a message"):
            metrics.listed(wrong)
    with pytest.raises(InvalidRequestError, match="metrics must be at least one"):
        metrics.listed([])


def test_every_metric_has_a_surrogate() -> None:
    fields = v1.MetricSpec.DESCRIPTOR.oneofs_by_name["kind"].fields
    assert set(kinds.surrogates) == {field.name for field in fields}


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
        {"hypotheses": {"a": 1}},
        {"hypotheses": {"a", "b"}},
        {"references": [{"a"}]},
        {"references": [{0: "a"}]},
    ],
)
def test_what_is_no_sequence_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r" must be "):
        sequences(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hypotheses": ["good", None]}, r"hypotheses\[1\] must be a text as others are, got None"),
        ({"hypotheses": [None, "good"]}, r"hypotheses\[0\] must be a text as others are, got None"),
        ({"hypotheses": ["good", 3.5]}, r"hypotheses\[1\] must be a text as others are, got 3.5"),
        ({"hypotheses": ["good", b"x"]}, r"hypotheses\[1\] must be a text as others are, got b'x'"),
        (
            {"hypotheses": ["a", "\ud800"]},
            r"hypotheses\[1\] must be a text without half .*'.ud800'",
        ),
        ({"hypotheses": [None, None]}, r"hypotheses\[0\] must be a list of texts or .*, got None"),
        ({"hypotheses": [[1], [0.5]]}, r"hypotheses\[1\] must be .* of token ids, got float64"),
        ({"references": ["a", ["b", None]]}, r"references\[1\]\[1\] must be a text .*, got None"),
        ({"references": ["a", None]}, r"references\[1\] must be a list of texts or .*, got None"),
        ({"references": [["a", "b\udfff"]]}, r"references\[0\]\[1\] must be a text without half"),
        ({"references": [[[1], [2.5]]]}, r"references\[0\]\[1\] must be .* got float64"),
        (
            {"hypotheses": [["a", "b"]]},
            r"hypotheses\[0\] must be .* got a list of texts: join words",
        ),
        ({"references": [[["a", "b"]]]}, r"references\[0\]\[0\] must be .* got a list of texts"),
    ],
)
def test_the_one_that_is_wrong_is_named(wrong: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{message}") as caught:
        sequences(**wrong)
    assert caught.value.field == next(iter(wrong))


def assert_tokens(sent: Any, tokens: list[int], lengths: list[int], counts: list[int]) -> None:
    assert tensors.read(sent.tokens).tolist() == tokens
    assert tensors.read(sent.lengths).tolist() == lengths
    assert tensors.read(sent.counts).tolist() == counts


def test_arrays_of_ids_stand_for_one_reference_or_a_row_each() -> None:
    pair = np.array([[1, 2], [3, 4]])
    for given in ([pair], [[pair[0], pair[1]]], [pair.tolist()], pair[None]):
        assert_tokens(sequences(references=given)["references"], [1, 2, 3, 4], [2, 2], [2])
    for given in (pair, [pair[0], pair[1]], pair.tolist(), [list(pair[0]), list(pair[1])]):
        assert_tokens(sequences(references=given)["references"], [1, 2, 3, 4], [2, 2], [1, 1])
    empty = sequences(references=[np.zeros(0, int), [[]]])["references"]
    assert_tokens(empty, [], [0, 0], [1, 1])


@pytest.mark.oracle
def test_tensors_of_torch_are_token_ids() -> None:
    torch = pytest.importorskip("torch")
    pair = torch.tensor([[1, 2], [3, 4]])
    for given in ([pair], pair[None], [[pair[0], pair[1]]], [[[1, 2], list(pair[1])]]):
        assert_tokens(sequences(references=given)["references"], [1, 2, 3, 4], [2, 2], [2])
    for given in (pair, [pair[0], pair[1]], [list(pair[0]), [3, 4]]):
        assert_tokens(sequences(references=given)["references"], [1, 2, 3, 4], [2, 2], [1, 1])
    sent = sequences(hypotheses=pair)["hypotheses"]
    assert tensors.read(sent.lengths).tolist() == [2, 2]


def test_a_series_of_pandas_is_a_list_whatever_its_index() -> None:
    pandas = pytest.importorskip("pandas")
    texts = pandas.Series(["a b", "c"], index=[7, 9])
    sent = sequences(hypotheses=texts, references=texts)
    assert list(sent["hypotheses"].texts) == list(sent["references"].texts) == ["a b", "c"]
    groups = pandas.Series([pandas.Series(["a", "b"], index=[3, 4]), "c"], index=[7, 9])
    sent = sequences(references=groups)
    assert tensors.read(sent["references"].counts).tolist() == [2, 1]
    ids = pandas.Series([4, 5], index=[7, 9])
    assert_tokens(sequences(references=[ids])["references"], [4, 5], [2], [1])


def test_what_is_none_is_not_given() -> None:
    request = metrics.build_request((), {"hypotheses": None, "targets": None, "predictions": [1]})
    assert not request.batch.sequences
    assert [named.name for named in request.batch.inputs] == ["predictions"]


def test_states_are_bytes() -> None:
    for wrong in (b"bytes", "text", [b"bytes", "text"]):
        with pytest.raises(InvalidRequestError, match=r"^states must"):
            metrics.build_request((), {}, states=wrong)  # type: ignore[arg-type]  # wrong on purpose
    assert not metrics.build_request((), {}, states=[b"1"]).HasField("batch")


def test_a_reply_that_breaks_the_contract_is_the_servers_mistake() -> None:
    response = v1.EvaluateResponse(results=[v1.MetricResult(metric="f1")])
    response.results[0].values.dtype = v1.D_TYPE_FLOAT64
    with pytest.raises(ServerError, match="response must hold valid tensors"):
        metrics.read_results(Framed(response))


def test_arrays_of_pyarrow_are_lists() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    for texts in (pyarrow.array(["a b", "c"]), pyarrow.chunked_array([["a b"], ["c"]])):
        sent = sequences(hypotheses=texts, references=texts)
        assert list(sent["hypotheses"].texts) == list(sent["references"].texts) == ["a b", "c"]
    sent = sequences(references=pyarrow.array([["a", "b"], ["c"]]))
    assert tensors.read(sent["references"].counts).tolist() == [2, 1]
    assert_tokens(
        sequences(references=pyarrow.array([[1, 2], [3]]))["references"], [1, 2, 3], [2, 1], [1, 1]
    )
    with pytest.raises(InvalidRequestError, match=r"^hypotheses\[1\] must be a text .*, got None"):
        sequences(hypotheses=pyarrow.array(["a", None]))


@pytest.mark.parametrize("name", ["predictions", "hypotheses", "references"])
def test_a_list_within_itself_is_refused(name: str) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidRequestError, match=f"^{name}.* must be "):
        metrics.build_request((), {name: [endless]})
