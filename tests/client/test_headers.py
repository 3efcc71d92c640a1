"""Headers that are kept: a request has the bytes that it would have if it were the first."""

import copy
import itertools
import pickle
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd import tensors, v1
from lossd.client import BatchWarning, InvalidRequestError
from lossd.client.arguments import selection
from lossd.client.headers import Encoded, Headers
from lossd.client.requests import build_request, known_request, request_for
from lossd.framing import WORTHWHILE_BYTES

LOGITS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
LABELS = np.array([0, 2, 1, 0])


USUAL: Mapping[str, Any] = {
    "loss": v1.CrossEntropy(),
    "inputs": {"predictions": LOGITS, "targets": LABELS},
    "reduction": "mean",
    "empty": "zero",
    "nonfinite": "propagate",
    "per_example": True,
    "normalizer": None,
    "gradients": None,
}


def as_clients(asked: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a request, as clients pass them on."""
    options = {**USUAL, **asked}
    return {**options, "gradients": selection(options["gradients"])}


def both(headers: Headers, asked: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The bytes of a request with the headers of those before, as clients ask, and without."""
    options = as_clients(asked)
    known = known_request(headers, **options) or request_for(headers, **options)
    return known.serialise(), build_request(**options).serialise()


# Each differs from the first in one thing.
MAPS = [LOGITS]
ASKED: tuple[Mapping[str, Any], ...] = (
    {},
    {"loss": v1.CrossEntropy(label_smoothing=0.1)},
    {"loss": v1.CrossEntropy(label_smoothing=0.2)},
    {"loss": v1.SoftmaxFocal()},
    {"loss": "cross_entropy"},
    {"loss": v1.LossSpec(cross_entropy=v1.CrossEntropy())},
    {"loss": v1.LossSpec(squared_error=v1.SquaredError())},
    {"loss": v1.SquaredError()},
    {"reduction": "sum"},
    {"empty": "nan"},
    {"nonfinite": "zero"},
    {"reduction": np.str_("sum")},
    {"per_example": False},
    {"per_example": 1},
    {"per_example": np.False_},
    {"normalizer": 1.0},
    {"normalizer": 1},
    {"normalizer": np.float32(1)},
    {"normalizer": True},
    {"normalizer": 2**53},
    {"normalizer": 2.0**53},
    {"normalizer": 0.0},
    {"normalizer": -0.0},
    {"normalizer": float("nan")},
    {"gradients": ()},
    {"gradients": ["predictions"]},
    {"gradients": ["targets"]},
    {"gradients": v1.GradientSelection(inputs=["predictions"])},
    {"weights": np.ones(4)},
    {"weights": np.ones(4, np.float32)},
    {"mask": np.ones(4, np.bool_)},
    {"cotangent": np.ones(4)},
    {"cotangent": np.float64(2)},
    {"weights": np.ones(4), "mask": np.ones(4, np.bool_), "cotangent": np.ones(4)},
    {"inputs": {"targets": LABELS, "predictions": LOGITS}},
    {"inputs": {"predictions": LOGITS, "targets": None}},
    {"inputs": {"predictions": LOGITS, "targets": LABELS, "lengths": None}},
    {"inputs": {"predictions": LOGITS, "targets": LABELS, "weights": np.ones(4)}},
    {"inputs": {"predictions": LOGITS[None], "targets": LABELS[None]}},
    {"inputs": {"predictions": np.ma.asarray(LOGITS).filled(), "targets": LABELS}},
    {"inputs": {"predictions": LOGITS, "labels": LABELS}},
    {"inputs": {"predictions": LOGITS.reshape(3, 4), "targets": LABELS}},
    {"inputs": {"predictions": LOGITS.T, "targets": LABELS}},
    {"inputs": {"predictions": LOGITS.astype(">f4"), "targets": LABELS}},
    {"inputs": {"predictions": np.zeros((4, 3), ">f4"), "targets": LABELS}},
    {"inputs": {"predictions": LOGITS.view(np.int32), "targets": LABELS}},
    {"inputs": {"predictions": LOGITS.astype(ml_dtypes.bfloat16), "targets": LABELS}},
    {"inputs": {"predictions": LOGITS[:0], "targets": LABELS[:0]}},
    {"inputs": {"predictions": LOGITS, "targets": LABELS.astype(np.uint64)}},
    {"inputs": {"predictions": LOGITS.tolist(), "targets": LABELS.tolist()}},
    {"loss": v1.FeatureMatching(), "inputs": {"predictions": MAPS * 2, "targets": MAPS * 2}},
    {"loss": v1.FeatureMatching(), "inputs": {"predictions": MAPS, "targets": MAPS * 3}},
    {"metrics": [v1.MetricSpec(accuracy=v1.Accuracy())]},
)  # fmt: skip


def test_requests_that_differ_in_one_thing_are_told_apart() -> None:
    for first, second in itertools.permutations(ASKED, 2):
        headers = Headers()
        for asked in (first, second, first, second):
            known, fresh = both(headers, asked)
            assert known == fresh, (first, second)


def test_all_of_them_share_the_headers() -> None:
    headers = Headers()
    for asked in ASKED * 3:
        known, fresh = both(headers, asked)
        assert known == fresh, asked


def test_only_the_numbers_of_a_known_kind_are_encoded() -> None:
    headers = Headers()
    rng = np.random.default_rng(0)
    for step in range(5):
        inputs = {"predictions": rng.normal(size=(4, 3)), "targets": rng.integers(0, 3, 4)}
        options = as_clients({"inputs": inputs})
        known = known_request(headers, **options)
        request = request_for(headers, **options)
        assert (known is not None) == isinstance(request, Encoded) == (step > 0)
        assert known is None or known.encoded == request.serialise()
        found = v1.ComputeLossRequest.FromString(request.serialise())
        for named in found.inputs:
            np.testing.assert_array_equal(tensors.read(named.tensors[0]), inputs[named.name])
    assert len(headers) == 1


WRONG: tuple[Mapping[str, Any], ...] = (
    {"loss": v1.Accuracy()},
    {"loss": "cross_entropi"},
    {"loss": None},
    {"reduction": "means"},
    {"reduction": ["mean"]},
    {"empty": None},
    {"normalizer": "1"},
    {"gradients": "predictions"},
    {"weights": np.array(["1"])},
    {"inputs": {"predictions": LOGITS, "targets": LABELS, "label_smoothing": np.ones(1)}},
    {"inputs": {"predictions": np.ma.masked_array(LOGITS), "targets": LABELS}},
    {"inputs": {"predictions": [LOGITS], "targets": LABELS}},
)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_refused_as_in_a_first_call(wrong: Mapping[str, Any]) -> None:
    refusals: list[tuple[str, str]] = []
    for headers in (Headers(), Headers()):
        for asked in ASKED * len(refusals):  # only the second has known any
            both(headers, asked)
        with pytest.raises(InvalidRequestError) as refused:
            both(headers, wrong)
        refusals.append((str(refused.value), refused.value.field))
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize(
    "asked",
    [
        {"inputs": {"predictions": np.zeros((4, 3, 3)), "targets": np.zeros((4, 3), int)}},
        {"lint": True, "mask": np.zeros(4, np.bool_)},
    ],
    ids=["caution", "lint"],
)
def test_a_known_kind_is_warned_of_each_time(asked: Mapping[str, Any]) -> None:
    headers = Headers()
    both(headers, {**asked, "lint": False} if "lint" in asked else {})
    for _ in range(3):
        with pytest.warns(BatchWarning):
            both(headers, asked)


def test_a_loss_that_was_changed_is_another() -> None:
    headers, loss = Headers(), v1.CrossEntropy(label_smoothing=0.1)
    assert both(headers, {"loss": loss})[0] == both(headers, {"loss": loss})[1]
    loss.label_smoothing = 0.3
    known, fresh = both(headers, {"loss": loss})

    assert known == fresh


@pytest.mark.parametrize(
    "asked",
    [
        {"inputs": {"predictions": np.zeros(WORTHWHILE_BYTES), "targets": LABELS}},
        {"loss": v1.CrossEntropy(class_weights=[1.0] * 5000)},
        {"metrics": [v1.MetricSpec(accuracy=v1.Accuracy())]},
    ],
    ids=["large", "long header", "metrics"],
)
def test_what_gains_nothing_is_not_kept(asked: Mapping[str, Any]) -> None:
    headers = Headers()
    known, fresh = both(headers, asked)

    assert known == fresh
    assert not len(headers)


@pytest.mark.parametrize(
    "asked",
    [
        {"lint": True},
        {"metrics": [v1.MetricSpec(accuracy=v1.Accuracy())]},
        {"inputs": {"predictions": LOGITS.tolist(), "targets": LABELS}},
        {"inputs": {"predictions": [LOGITS], "targets": LABELS}},
        {"inputs": {"predictions": np.ma.asarray(LOGITS), "targets": LABELS}},
    ],
    ids=["lint", "metrics", "list", "several", "subclass"],
)
def test_only_plain_arrays_of_a_plain_request_are_known(asked: Mapping[str, Any]) -> None:
    headers = Headers()
    both(headers, {})

    assert known_request(headers, **as_clients({})) is not None
    assert known_request(headers, **as_clients(asked)) is None


def test_as_many_are_kept_as_may_be() -> None:
    headers = Headers(most=3)
    for number in range(20):
        known, fresh = both(headers, {"normalizer": 1.0 + number})
        assert known == fresh
        assert 0 < len(headers) <= 3


def test_a_copy_has_none() -> None:
    headers = Headers()
    both(headers, {})

    assert len(headers) == 1
    assert not len(copy.deepcopy(headers))
    assert not len(pickle.loads(pickle.dumps(headers)))  # noqa: S301 - our own
