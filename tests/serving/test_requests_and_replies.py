"""Whatever the bytes, they become a job or an error that the caller understands."""

import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd import tensors, v1
from lossd.backends.numpy import NumpyBackend
from lossd.checkpoints import never_stop
from lossd.engine import Engine, hold_nothing
from lossd.errors import InvalidParameter, ServiceError, TooLarge, UnknownLoss
from lossd.evaluation import METRICS
from lossd.forms import is_repeated
from lossd.framing import Framed
from lossd.losses import LOSSES, DistributionKind, Status
from lossd.losses.cross_entropy import CrossEntropyOutput
from lossd.reduction import EmptyPolicy, NonfinitePolicy, Reduction
from lossd.serving.evaluation_service import codec
from lossd.serving.loss_service import replies as loss_replies
from lossd.serving.loss_service import requests as loss_requests
from lossd.serving.rpc.messages import parse_framed
from lossd.serving.wire.reader import Limits


def request(**fields: object) -> Framed[v1.ComputeLossRequest]:
    made = v1.ComputeLossRequest(**fields)  # type: ignore[arg-type]  # the tests' own
    tensors.fill(made.inputs.add(name="predictions").tensors.add(), np.zeros((3, 2), np.float32))
    tensors.fill(made.inputs.add(name="targets").tensors.add(), np.array([0, 1, 1]))
    return Framed(made)


LIMITS = Limits()
CROSS_ENTROPY = v1.LossSpec(cross_entropy=v1.CrossEntropy())


@pytest.mark.parametrize("reduction", Reduction)
def test_every_reduction_is_told_from_the_others(reduction: Reduction) -> None:
    number = v1.Reduction.Value(f"REDUCTION_{reduction.name}")

    assert (
        loss_requests.read_job(request(loss=CROSS_ENTROPY, reduction=number), LIMITS).reduction
        is reduction
    )


def test_what_is_not_set_has_its_default() -> None:
    job = loss_requests.read_job(request(loss=CROSS_ENTROPY), LIMITS)

    assert (job.reduction, job.empty, job.nonfinite) == (
        Reduction.MEAN,
        EmptyPolicy.ZERO,
        NonfinitePolicy.PROPAGATE,
    )
    assert job.gradients is None
    assert job.per_example
    assert not job.parameters


def test_zero_and_absent_parameters_differ() -> None:
    spec = v1.LossSpec(
        cross_entropy=v1.CrossEntropy(
            ignore_index=0, prediction_kind=v1.DISTRIBUTION_KIND_PROBABILITIES
        )
    )

    assert loss_requests.read_job(request(loss=spec), LIMITS).parameters == {
        "ignore_index": 0,
        "prediction_kind": DistributionKind.PROBABILITIES,
    }


def test_an_enum_number_that_does_not_exist_is_refused() -> None:
    spec = v1.LossSpec(cross_entropy=v1.CrossEntropy(prediction_kind=77))  # type: ignore[arg-type]

    with pytest.raises(InvalidParameter, match=r"prediction_kind must be one of LOGITS, .*got 77"):
        loss_requests.read_job(request(loss=spec), LIMITS)


def test_a_list_of_choices_is_read_in_order() -> None:
    spec = v1.LossSpec(cross_entropy=v1.CrossEntropy(outputs=["ENTROPY", "LOG_SUM_EXP"]))

    chosen = loss_requests.read_job(request(loss=spec), LIMITS).parameters["outputs"]
    assert chosen == (CrossEntropyOutput.ENTROPY, CrossEntropyOutput.LOG_SUM_EXP)


@pytest.mark.parametrize("number", [0, 77, -1])
def test_a_choice_that_does_not_exist_is_refused_by_its_place(number: int) -> None:
    spec = v1.LossSpec(cross_entropy=v1.CrossEntropy(outputs=[2, number]))  # type: ignore[list-item]

    words = rf"outputs\[1\] must be one of LOG_SUM_EXP, .*got {number}"
    with pytest.raises(InvalidParameter, match=words) as caught:
        loss_requests.read_job(request(loss=spec), LIMITS)
    assert caught.value.field == "loss.cross_entropy.outputs[1]"


def wrong_members(kind: Any) -> list[tuple[str, Any]]:
    """Each parameter of a message that is an enum, or a list of them, with no member of it."""
    fields = [field for field in kind.fields if field.enum_type is not None]
    return [(f.name + "[0]" * is_repeated(f), [77] if is_repeated(f) else 77) for f in fields]


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_no_member_is_refused_by_its_field(loss: str) -> None:
    for name, wrong in wrong_members(v1.LossSpec.DESCRIPTOR.fields_by_name[loss].message_type):
        spec: Any = v1.LossSpec(**{loss: {name.partition("[")[0]: wrong}})
        summed = v1.LossSpec(weighted_sum={"terms": [{"loss": CROSS_ENTROPY}, {"loss": spec}]})
        for each, told, path in ((spec, "", ""), (summed, "terms[1]: ", "weighted_sum.terms[1].")):
            with pytest.raises(InvalidParameter) as caught:
                loss_requests.read_request(request(loss=each), LIMITS)
            assert str(caught.value).startswith(f"{told}{name} must be one of ")
            place = f"loss.{path}loss." if path else "loss."
            assert caught.value.field == f"{place}{loss}.{name}"


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_no_member_of_a_metric_is_refused_by_its_field(metric: str) -> None:
    for name, wrong in wrong_members(v1.MetricSpec.DESCRIPTOR.fields_by_name[metric].message_type):
        spec: Any = v1.MetricSpec(**{metric: {name.partition("[")[0]: wrong}})
        with pytest.raises(InvalidParameter, match="must be one of ") as caught:
            codec.read_spec(spec, "metrics[3]")
        assert caught.value.field == f"metrics[3].{metric}.{name}"


def test_a_term_without_a_loss_is_refused_by_its_field() -> None:
    summed = v1.LossSpec(weighted_sum={"terms": [{"loss": CROSS_ENTROPY}, {}]})
    with pytest.raises(UnknownLoss, match=r"^terms\[1\]: loss must be one of ") as caught:
        loss_requests.read_request(request(loss=summed), LIMITS)
    assert caught.value.field == "loss.weighted_sum.terms[1].loss"


@pytest.mark.parametrize("weight", [math.inf, -math.inf, math.nan])
def test_a_weight_of_a_term_that_is_not_finite_is_refused_by_its_field(weight: float) -> None:
    summed = v1.LossSpec(weighted_sum={"terms": [{"loss": CROSS_ENTROPY, "weight": weight}]})
    with pytest.raises(InvalidParameter, match=r"weight must be in \(-inf, inf\), got ") as caught:
        loss_requests.read_request(request(loss=summed), LIMITS)
    assert caught.value.field == "loss.weighted_sum.terms[0].weight"


def test_a_sum_of_losses_is_no_term_of_another() -> None:
    inner = v1.LossSpec(weighted_sum={"terms": [{"loss": CROSS_ENTROPY}]})
    summed = v1.LossSpec(weighted_sum={"terms": [{"loss": CROSS_ENTROPY}, {"loss": inner}]})
    with pytest.raises(UnknownLoss, match="must be a single loss, got a sum of") as caught:
        loss_requests.read_request(request(loss=summed), LIMITS)
    assert caught.value.field == "loss.weighted_sum.terms[1].loss"


def test_gradients_are_not_asked_for_a_million_times() -> None:
    made = request(loss=CROSS_ENTROPY)
    made.message.gradients.inputs.extend(["predictions"] * 1_000_000)
    with pytest.raises(
        TooLarge, match=r"gradients.inputs must have at most \d+ entries, got 1000000"
    ):
        loss_requests.read_job(made, LIMITS)


def test_a_choice_is_not_made_a_million_times() -> None:
    chosen = [v1.CROSS_ENTROPY_OUTPUT_ENTROPY] * 1_000_000
    spec = v1.LossSpec(cross_entropy=v1.CrossEntropy(outputs=chosen))

    with pytest.raises(TooLarge, match="outputs must have at most 64 entries, got 1000000"):
        loss_requests.read_job(request(loss=spec), LIMITS)


def test_outputs_are_named_tensors() -> None:
    spec = v1.LossSpec(cross_entropy=v1.CrossEntropy(outputs=["PREDICTED_CLASS", "LOG_SUM_EXP"]))
    reply = loss_replies.response(
        ENGINE.run(loss_requests.read_job(request(loss=spec), LIMITS))
    ).message

    found = {named.name: tensors.read(named.tensors[0]) for named in reply.outputs}
    assert list(found) == ["predicted_class", "log_sum_exp"]
    assert found["predicted_class"].dtype == np.int64
    np.testing.assert_allclose(found["log_sum_exp"], np.log(np.full(3, 2, np.float32)))


def test_an_empty_gradient_selection_is_not_an_absent_one() -> None:
    made = request(loss=CROSS_ENTROPY)
    made.message.gradients.SetInParent()

    assert loss_requests.read_job(made, LIMITS).gradients == ()


def test_statuses_have_their_numbers_of_the_contract() -> None:
    made = v1.ComputeLossRequest(
        loss=v1.LossSpec(dice=v1.Dice(empty_target=v1.EMPTY_TARGET_SKIP)), per_example=False
    )
    given = {
        "predictions": np.array([[0.0], [np.nan], [0.0]]),
        "targets": np.array([[1], [1], [0]]),
    }
    for name, array in given.items():
        tensors.fill(made.inputs.add(name=name).tensors.add(), array)

    reply = loss_replies.response(ENGINE.run(loss_requests.read_job(Framed(made), LIMITS))).message

    assert tensors.read(reply.statuses.indices).tolist() == [1, 2]
    numbers = tensors.read(reply.statuses.statuses)
    assert numbers.dtype == np.uint8
    assert numbers.tolist() == [v1.STATUS_NONFINITE, v1.STATUS_EMPTY_TARGET]
    assert (reply.nonfinite_count, reply.ignored_count) == (1, 1)
    assert reply.status == v1.STATUS_UNSPECIFIED


def test_every_status_is_one_of_the_contract() -> None:
    names = [name.removeprefix("STATUS_") for name in v1.Status.keys()]  # noqa: SIM118 - no dict
    assert names == ["UNSPECIFIED", *(status.name for status in Status)]


def test_a_set_has_a_status_and_no_single_losses() -> None:
    made = v1.ComputeLossRequest(loss=v1.LossSpec(pairwise_auc=v1.PairwiseAuc()), per_example=True)
    for name in ("predictions", "targets"):
        tensors.fill(made.inputs.add(name=name).tensors.add(), np.zeros(3, np.float32))

    reply = loss_replies.response(ENGINE.run(loss_requests.read_job(Framed(made), LIMITS))).message

    assert (reply.status, reply.loss) == (v1.STATUS_UNDEFINED, 0)
    assert not reply.HasField("per_example")
    assert not reply.HasField("statuses")


@given(st.data())
def test_damaged_requests_are_answered_or_refused_in_our_words(data: st.DataObject) -> None:
    loss = data.draw(st.sampled_from(list(LOSSES.values())))
    spec = v1.LossSpec(**{loss.name: getattr(v1, loss.message)()})
    encoded = bytearray(request(loss=spec).serialise())
    positions = st.integers(0, len(encoded) - 1)
    for position in data.draw(st.lists(positions, max_size=4)):
        encoded[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    damaged = bytes(encoded) if data.draw(st.booleans()) else bytes(encoded[:cut])

    refusal = refused(damaged)

    assert refusal is None or " must " in str(refusal)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        ("cross_entropy", "class_weights"),
        ("cross_entropy", "class_priors"),
        ("softmax_focal", "class_weights"),
        ("binary_cross_entropy", "positive_weights"),
        ("perceptual", "layer_weights"),
        ("perceptual", "value_range"),
        ("feature_matching", "layer_weights"),
    ],
)
def test_numbers_are_counted_before_each_is_looked_at(loss: str, name: str) -> None:
    """They are out of bounds, too."""
    spec = v1.LossSpec()
    getattr(getattr(spec, loss), name).extend([-math.inf] * (1 << 13))
    summed = v1.LossSpec()
    summed.weighted_sum.terms.add(loss=spec)
    cases = ((spec, "", ""), (summed, r"terms\[0\]: ", "loss.weighted_sum.terms[0]."))
    for each, told, path in cases:
        made = request(loss=each)
        with pytest.raises(
            InvalidParameter, match=rf"^{told}{name} must have at most 3 numbers"
        ) as error:
            loss_requests.read_request(made, LIMITS)
        assert error.value.field == f"{path}loss.{loss}.{name}"


@pytest.mark.parametrize("wire", ["packed", "one by one"])
def test_numbers_of_a_list_count_as_pythons_own(wire: str) -> None:
    count = 1 << 16
    weights = np.ones(count)
    number = v1.CrossEntropy.DESCRIPTOR.fields_by_name["class_weights"].number
    packed = v1.CrossEntropy(class_weights=weights).SerializeToString()
    single = b"".join(bytes([number << 3 | 1]) + one.tobytes() for one in weights)
    body = packed if wire == "packed" else single
    encoded = _nested(v1.ComputeLossRequest, "loss", _nested(v1.LossSpec, "cross_entropy", body))
    held: list[int] = []
    parsed = parse_framed(v1.ComputeLossRequest, encoded, held.append, never_stop).message
    assert len(parsed.loss.cross_entropy.class_weights) == count
    assert len(encoded) + sum(held) >= count * (8 + sys.getsizeof(1.0) + 8)


def _nested(kind: Any, name: str, body: bytes) -> bytes:
    """The bytes of a message that has nothing but another one, as encoded."""
    empty = kind()
    getattr(empty, name).SetInParent()
    return bytes(empty.SerializeToString()[:-1]) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def refused(encoded: bytes) -> ServiceError | None:
    """The error that the bytes are answered with, if they are not served."""
    try:
        request = parse_framed(v1.ComputeLossRequest, encoded, hold_nothing, never_stop)
        loss_replies.response(ENGINE.run(loss_requests.read_job(request, LIMITS)))
    except ServiceError as error:
        return error
    return None


ENGINE = Engine(NumpyBackend(1))
