"""Arguments in forms of the users' own, through both clients and a real server."""

import collections
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from lossd.client import BatchWarning, InvalidRequestError, LossClient, to_torch, weighted_sum
from lossd.v1 import (
    Accuracy,
    BinaryCrossEntropy,
    CrossEntropy,
    Ctc,
    Dice,
    ExpectedRisk,
    FeatureMatching,
    Huber,
    InfoNce,
    LovaszSoftmax,
    MulticlassHinge,
    NtXent,
    SoftmaxFocal,
    SquaredError,
    WordErrorRate,
)
from tests.end_to_end.conftest import Process


def logits() -> npt.NDArray[np.float64]:
    return np.random.default_rng(0).standard_normal((6, 3))


LABELS = np.array([0, 1, 2, 0, 1, 2])


def test_weights_by_class_weigh_by_class(server: Process, connect: Any) -> None:
    weights = np.array([1.0, 5.0, 2.0])
    chances = np.exp(logits()) / np.exp(logits()).sum(axis=1, keepdims=True)
    own = -np.log(chances[np.arange(6), LABELS])
    expected = (weights[LABELS] * own).sum() / weights[LABELS].sum()
    with connect(server.address) as client:
        for given in (
            weights,
            {2: 2.0, 0: 1.0, 1: 5.0},
            collections.Counter([1, 2, 0, 1, 2] + 3 * [1]),
        ):
            loss = CrossEntropy(class_weights=given)
            assert client.compute(loss, logits(), LABELS).loss == pytest.approx(expected, rel=1e-14)
            total = weighted_sum((2.0, loss))
            found = client.compute(total, predictions=logits(), targets=LABELS)
            assert found.loss == pytest.approx(2 * expected, rel=1e-14)


@pytest.mark.parametrize(
    ("loss", "inputs"),
    [
        (CrossEntropy(), {"predictions": list(logits()), "targets": LABELS}),
        (Huber(), {"predictions": logits(), "targets": list(logits())}),
        (Huber(), {"predictions": [logits()[0]], "targets": [logits()[0]]}),
        (Huber(), {"predictions": tuple(np.zeros((1001, 3))), "targets": np.zeros((1001, 3))}),
        (weighted_sum((1, Huber())), {"predictions": list(logits()), "targets": logits()}),
    ],
)
def test_rows_one_by_one_are_to_be_stacked(
    server: Process, connect: Any, loss: Any, inputs: Any
) -> None:
    with (
        connect(server.address) as client,
        pytest.raises(InvalidRequestError, match=r"^(pred|targ)\w+ must be one array, .*stack"),
    ):
        client.compute(loss, **inputs)


def test_a_list_of_one_map_gets_a_list_of_one_gradient(server: Process, connect: Any) -> None:
    maps = np.ones((2, 3, 4))
    both = weighted_sum((1.0, FeatureMatching(), {"predictions": "maps", "targets": "truth"}))
    with connect(server.address) as client:
        listed = client.compute(FeatureMatching(), [maps], [maps + 1])
        (gradient,) = listed.gradients["predictions"]
        assert gradient.shape == maps.shape
        bare = client.compute(FeatureMatching(), maps, maps + 1)
        assert bare.gradients["predictions"].tolist() == gradient.tolist()
        total = client.compute(both, maps=[maps], truth=[maps + 1])
        assert isinstance(total.gradients["maps"], list)


def test_none_stands_for_an_input_that_is_not_given(server: Process, connect: Any) -> None:
    frames, labels = np.zeros((2, 4, 3)), np.array([[1, 2], [2, 1]])
    with connect(server.address) as client:
        bare = client.compute(Ctc(), frames, labels)
        assert client.compute(Ctc(), frames, labels, None, None).loss == bare.loss
        assert client.compute(Ctc(), frames, labels, target_lengths=None).loss == bare.loss
        alone = client.compute(InfoNce(), logits(), logits())
        assert client.compute(InfoNce(), logits(), logits(), negatives=None).loss == alone.loss
        with pytest.raises(
            InvalidRequestError, match="targets must be given for CrossEntropy, got nothing"
        ):
            client.compute(CrossEntropy(), predictions=logits(), targets=None)
        with pytest.raises(
            InvalidRequestError, match="targets must be given for Accuracy, got nothing"
        ):
            client.evaluate(Accuracy(), predictions=logits(), targets=None)


@pytest.mark.parametrize(
    ("loss", "inputs"),
    [
        (CrossEntropy(), {"predictions": np.zeros((0, 3)), "targets": []}),
        (SoftmaxFocal(), {"predictions": np.zeros((0, 3)), "targets": []}),
        (MulticlassHinge(), {"predictions": np.zeros((0, 3)), "targets": []}),
        (LovaszSoftmax(), {"predictions": np.zeros((0, 3)), "targets": []}),
        (Dice(class_axis=-1), {"predictions": np.zeros((0, 3)), "targets": []}),
        (NtXent(), {"embeddings": np.zeros((0, 3)), "labels": []}),
        (Huber(), {"predictions": [], "targets": []}),
        (BinaryCrossEntropy(), {"predictions": [], "targets": []}),
    ],
)
def test_an_empty_list_is_no_examples(
    server: Process, connect: Any, loss: Any, inputs: Any
) -> None:
    with connect(server.address) as client:
        found = client.compute(loss, weights=[], mask=[], **inputs)
    assert (found.loss, found.example_count) == (0, 0)


def test_an_empty_list_is_no_examples_for_metrics(server: Process, connect: Any) -> None:
    with connect(server.address) as client:
        nothing: tuple[Any, ...] = (np.zeros((0, 3)), [])
        for predictions in nothing:
            found = client.evaluate(Accuracy(), predictions=predictions, targets=[], mask=[])
            assert (found.value, found.reason) == (None, "there is no example")


def test_integers_are_targets_of_a_regression(server: Process, connect: Any) -> None:
    predictions, targets = np.array([0.5, 3.0, -1.0]), np.array([1, 1, -3], np.int8)
    with connect(server.address) as client:
        found = client.compute(SquaredError(), predictions, targets)
        assert found.loss == ((predictions - targets) ** 2).mean()
        with pytest.raises(InvalidRequestError, match="gradients must be among predictions for"):
            client.compute(SquaredError(), predictions, targets, gradients=["targets"])
        risk = client.compute(ExpectedRisk(), np.log([[0.25, 0.75]]), [[1, 0]])
        assert risk.loss == pytest.approx(0.25)


def test_the_index_of_an_element_is_that_of_the_callers_array(
    server: Process, connect: Any
) -> None:
    labels = np.zeros((2, 2, 2), int)
    labels[1, 0, 1] = 7
    cube = np.zeros((2, 2, 2, 5))
    weights = np.ones((2, 2, 2))
    weights[0, 1, 0] = -1
    yes_no = np.zeros((2, 2, 2))
    yes_no[1, 1, 0] = 2
    with connect(server.address) as client:
        for call, words in (
            (lambda: client.compute(CrossEntropy(), cube, labels), "targets[1, 0, 1]"),
            (
                lambda: client.compute(
                    CrossEntropy(class_axis=1), np.moveaxis(cube, -1, 1), labels
                ),
                "targets[1, 0, 1]",
            ),
            (
                lambda: client.compute(CrossEntropy(), cube, labels * 0, weights=weights),
                "weights[0, 1, 0]",
            ),
            (
                lambda: client.compute(BinaryCrossEntropy(), yes_no, yes_no),
                "targets[1, 1, 0]",
            ),
            (
                lambda: client.evaluate(Accuracy(), predictions=cube, targets=labels),
                "targets[1, 0, 1]",
            ),
            (
                lambda: client.evaluate(
                    Accuracy(), predictions=cube, targets=labels * 0, weights=weights
                ),
                "weights[0, 1, 0]",
            ),
        ):
            with pytest.raises(InvalidRequestError) as caught:
                call()  # type: ignore[no-untyped-call]
            assert str(caught.value).startswith(f"{words} must be in ")


def test_errors_of_a_sum_name_inputs_as_the_caller_does(server: Process, connect: Any) -> None:
    total = weighted_sum((1, Huber()), (1, CrossEntropy(), {"targets": "kinds"}))
    with (
        connect(server.address) as client,
        pytest.raises(InvalidRequestError, match=r"^terms\[1\]: kinds\[4\] must be in") as caught,
    ):
        client.compute(total, predictions=logits(), targets=logits(), kinds=[0, 1, 2, 0, 3, 0])
    assert caught.value.field == "inputs.kinds"
    short = weighted_sum((1, Huber()), (1, CrossEntropy(class_weights=[1]), {"targets": "kinds"}))
    with (
        connect(server.address) as client,
        pytest.raises(InvalidRequestError, match=r"^terms\[1\]: class_weights must have") as caught,
    ):
        client.compute(short, predictions=logits(), targets=logits(), kinds=[0, 1, 2, 0, 2, 0])
    assert caught.value.field == "loss.weighted_sum.terms[1].loss.cross_entropy.class_weights"


def test_the_order_of_classes_in_pytorch_is_told(server: Process, connect: Any) -> None:
    with connect(server.address) as client:
        with pytest.raises(InvalidRequestError, match=r"got \[8, 16\]: they would fit class_axis"):
            client.compute(CrossEntropy(), np.zeros((8, 4, 16)), np.zeros((8, 16), int))
        with pytest.raises(InvalidRequestError, match="on axis 1, which must be the last"):
            client.compute(SoftmaxFocal(), np.zeros((8, 4, 16)), np.zeros((8, 16), int))
        with pytest.raises(InvalidRequestError, match="on axis 1, which must be the last"):
            client.evaluate(
                Accuracy(), predictions=np.zeros((8, 4, 16)), targets=np.zeros((8, 16), int)
            )
        batch = np.zeros((8, 4, 4)), np.zeros((8, 4), int)
        with pytest.warns(BatchWarning, match="class_axis=1") as caught:
            client.compute(CrossEntropy(), *batch)
        if isinstance(client, LossClient):  # it is told of the line that called
            assert {record.filename for record in caught} == {__file__}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for axis in (1, -1):
                client.compute(CrossEntropy(class_axis=axis), *batch)


@pytest.mark.parametrize("columns", [2, 3])
def test_positive_weights_go_by_the_last_axis_however_many_axes_are_examples(
    server: Process, connect: Any, columns: int
) -> None:
    random = np.random.default_rng(1)
    scores = random.standard_normal((5, 4, columns))
    answers = (random.random(scores.shape) < 0.5).astype(float)
    weights = np.arange(1.0, columns + 1)
    each = np.logaddexp(0, -scores) * answers * weights + np.logaddexp(0, scores) * (1 - answers)
    chances = 1 / (1 + np.exp(-scores))
    derivatives = (1 - answers) * chances - weights * answers * (1 - chances)
    with connect(server.address) as client:
        for dims in range(4):
            loss = BinaryCrossEntropy(positive_weights=weights, batch_dims=dims)
            found = client.compute(loss, scores, answers)
            expected = each.mean(axis=tuple(range(dims, 3)))
            np.testing.assert_allclose(found.per_example, expected, rtol=1e-12)
            np.testing.assert_allclose(
                found.gradients["predictions"], derivatives / derivatives.size, rtol=1e-12
            )
        with pytest.raises(InvalidRequestError, match="must have 1 number, got 2"):
            client.compute(
                BinaryCrossEntropy(positive_weights=[1, 2]), np.zeros((3, 1)), np.zeros((3, 1))
            )


def test_long_texts_have_a_word_error_rate(server: Process, connect: Any) -> None:
    words = [str(number % 997) for number in range(40_000)]
    wrong = [*words[:100], "new", *words[102:]]  # one replaced, one left out
    with connect(server.address) as client:
        found = client.evaluate(
            WordErrorRate(), hypotheses=[" ".join(wrong)], references=[[" ".join(words)]]
        )
    assert found.outputs["edits"] == 2
    assert found.value == 2 / 40_000


@pytest.mark.oracle
def test_arrays_are_made_of_the_types_of_torch_and_come_back_as_its_tensors(
    server: Process, connect: Any
) -> None:
    torch = pytest.importorskip("torch")
    with connect(server.address) as client:
        scores = client.empty((2, 3), torch.bfloat16)
        scores[...] = [[0, 1, 2], [3, 4, 5]]
        found = client.compute(CrossEntropy(), scores, torch.tensor([0, 2]))
    gradient = to_torch(found.gradients["predictions"])
    logits = torch.tensor(scores.astype(np.float32), requires_grad=True)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
    assert gradient.dtype is torch.bfloat16
    torch.testing.assert_close(gradient, logits.grad.bfloat16())


@pytest.mark.parametrize(
    ("name", "meant"),
    [("target", "targets"), ("weight", "weights"), ("normaliser", "normalizer")],
)
def test_the_server_guesses_what_a_wrong_name_means(
    server: Process, connect: Any, name: str, meant: str
) -> None:
    with connect(server.address) as client:
        with pytest.raises(InvalidRequestError, match=rf"did you mean {meant}\?$"):
            client.compute(CrossEntropy(), predictions=logits(), **{name: LABELS})
        with pytest.raises(InvalidRequestError, match=r"got 'predicton': did you mean predictions"):
            client.compute(CrossEntropy(), logits(), LABELS, gradients=["predicton"])


@pytest.mark.parametrize("name", ["logits", "input"])
def test_a_name_that_is_like_none_is_answered_with_those_there_are(
    server: Process, connect: Any, name: str
) -> None:
    """Nobody means ``lint`` who writes ``logits``."""
    values = np.ones((2, 3))
    with connect(server.address) as client:
        with pytest.raises(InvalidRequestError, match=f"among predictions, targets, got '{name}'$"):
            client.compute("huber", **{name: values}, targets=values)
        told = f"names of the loss, got '{name}': there are predictions, targets$"
        with pytest.raises(InvalidRequestError, match=told):
            client.compute("huber", values, **{name: values})


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "bfloat16", "float64"])
def test_weights_and_cotangents_are_of_any_type(server: Process, connect: Any, dtype: str) -> None:
    ones = np.ones(6).astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    with connect(server.address) as client:
        plain = client.compute(CrossEntropy(), logits(), LABELS)
        found = client.compute(CrossEntropy(), logits(), LABELS, weights=ones, cotangent=ones)
    assert found.loss == plain.loss
    assert np.array_equal(found.gradients["predictions"], plain.gradients["predictions"])
