"""Plans: a request is answered as if it were the first, whatever was asked before."""

import contextlib
import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from lossd import tensors, v1
from lossd.backends.choose import Chosen, cpu_backend
from lossd.client.requests import build_request
from lossd.engine import Engine
from lossd.errors import InvalidTensor, ServiceError
from lossd.losses import LOSSES, Loss
from lossd.serving.call import Call, Received
from lossd.serving.config import Config
from lossd.serving.loss_service.plans import Plans
from lossd.serving.loss_service.servicer import LossServicer
from lossd.serving.process.device_check import CheckedDevice
from lossd.serving.process.versions import versions
from lossd.serving.rpc.admission import Admission, ComputeSlots
from lossd.serving.telemetry import Telemetry
from tests.drawn_networks import NETWORKS
from tests.losses.case import Case
from tests.messages import message_of, request_of
from tests.sampling import cases, coupled_cases, forms, plain

Serve = Callable[[], LossServicer]


class Context:
    """A caller who waits."""

    def cancel(self) -> None:
        raise NotImplementedError

    def is_active(self) -> bool:
        return True

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float | None:
        return None

    def send_initial_metadata(self, _: Any, /) -> None:
        raise AssertionError

    def invocation_metadata(self) -> Any:
        return ()


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Makes servicers that nobody has asked anything yet; they compute with one engine."""
    backend = cpu_backend(2)
    tried = CheckedDevice(Chosen(backend, "it is there"), Engine(backend, NETWORKS), {})
    telemetry = Telemetry(CollectorRegistry(), losses=LOSSES)

    def made() -> LossServicer:
        return LossServicer(Config(), tried, ComputeSlots(2), telemetry, installed=versions())

    yield made
    tried.engine.close()


def answer(servicer: LossServicer, message: bytes) -> Any:
    """The reply but for its timing; of a refusal all that a caller is told."""
    try:
        encoded = servicer.compute_loss(Received(message), Call(Context(), "id"))
    except ServiceError as error:
        return type(error), str(error), error.field, error.reason, error.details
    reply = v1.ComputeLossResponse.FromString(encoded)
    assert reply.SerializeToString() == encoded  # as protobuf would have written it
    reply.ClearField("server_timing")
    return reply.SerializeToString()


def is_planned(servicer: LossServicer, message: bytes) -> bool:
    return servicer._plans.find(message) is not None


@dataclass(frozen=True)
class Told:
    """Answers of a servicer that was asked before, beside those of fresh ones."""

    servicer: LossServicer
    serve: Serve

    def agrees_on(self, message: bytes) -> bool:
        return bool(answer(self.servicer, message) == answer(self.serve(), message))


# ------------------------------------------------------------------ never a wrong plan


def _cases(loss: Loss) -> list[Case]:
    drawn = coupled_cases if loss.shape.name == "COUPLED" else cases
    return [case.astype(np.float32) for case in drawn(loss)]


def test_parameters_are_told_apart(serve: Serve, any_loss: Loss) -> None:
    """Every variant of a loss, each beside all others, and then with a plan."""
    told = Told(serve(), serve)
    messages = [request_of(case).SerializeToString() for case in _cases(any_loss)]
    for message in messages * 2:
        assert told.agrees_on(message)
    assert all(is_planned(told.servicer, message) for message in messages)


def _set(name: str, value: Any) -> Callable[[v1.ComputeLossRequest], object]:
    return lambda request: setattr(request, name, value)


def _tensor(name: str, array: Any) -> Callable[[v1.ComputeLossRequest], object]:
    return lambda request: tensors.fill(getattr(request, name), np.asarray(array))


def _reshaped(request: v1.ComputeLossRequest) -> None:
    """Another shape of the same bytes, in as many bytes."""
    shape = request.inputs[0].tensors[0].shape
    shape[:] = shape[::-1]


def _other_order(request: v1.ComputeLossRequest) -> None:
    given = list(request.inputs)[::-1]
    del request.inputs[:]
    request.inputs.extend(given)


def _fewer(request: v1.ComputeLossRequest) -> None:
    for named in request.inputs:
        for tensor in named.tensors:
            array = tensors.read(tensor)
            if array.ndim:
                tensors.fill(tensor, array[:-1])


def _unknown(request: v1.ComputeLossRequest) -> None:
    request.MergeFromString(b"\xa0\x06\x01")  # field 100, a number


# Each changes one thing; the last ones keep the length of the message.
CHANGES: dict[str, Callable[[v1.ComputeLossRequest], object]] = {
    "reduction": _set("reduction", v1.REDUCTION_SUM),
    "batch mean": _set("reduction", v1.REDUCTION_BATCH_MEAN),
    "no such reduction": _set("reduction", 9),
    "normalizer": _set("normalizer", 7.0),
    "another normalizer": _set("normalizer", 7.5),
    "no gradients": lambda request: request.gradients.SetInParent(),
    "a gradient": lambda request: request.gradients.inputs.append(request.inputs[0].name),
    "no such gradient": lambda request: request.gradients.inputs.append("x"),
    "no values": _set("per_example", 0),
    "empty": _set("empty", v1.EMPTY_POLICY_ERROR),
    "not finite": _set("nonfinite", v1.NONFINITE_POLICY_ZERO),
    "weights": _tensor("weights", np.linspace(0, 2, 4)),
    "weights of another type": _tensor("weights", np.linspace(0, 2, 4, dtype=np.float32)),
    "no right weights": _tensor("weights", [1.0, -1.0, 0.0, np.nan]),
    "weights of too few": _tensor("weights", [1.0]),
    "mask": _tensor("mask", np.array([True, False, True, True])),
    "mask of all": _tensor("mask", np.zeros(4, np.bool_)),
    "mask of another type": _tensor("mask", np.zeros(4, np.uint8)),
    "cotangent": _tensor("cotangent", np.linspace(-1, 1, 4)),
    "one cotangent": _tensor("cotangent", 2.0),
    "fewer": _fewer,
    "order": _other_order,
    "unknown field": _unknown,
    "room for the reply": lambda request: request.reply.SetInParent(),
    "shape": _reshaped,
    "number of the type": lambda r: setattr(r.inputs[0].tensors[0], "dtype", v1.D_TYPE_INT32),
    "sign of the other": lambda r: setattr(r.inputs[-1].tensors[0], "dtype", v1.D_TYPE_UINT64),
    "name": lambda request: setattr(request.inputs[0], "name", "predictiont"),
}


def _small(loss: Loss) -> Case:
    return plain(loss, rows=4, length=4, form=forms(loss)[-1]).astype(np.float32)


def test_options_types_and_shapes_are_told_apart(serve: Serve, any_loss: Loss) -> None:
    told = Told(serve(), serve)
    plainly = request_of(_small(any_loss)).SerializeToString()
    for change in (lambda _: None, *CHANGES.values()):
        request = v1.ComputeLossRequest.FromString(plainly)
        change(request)
        for message in (request.SerializeToString(),) * 2:
            assert told.agrees_on(message), request
        assert told.agrees_on(plainly)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_other_byte_is_as_if_nothing_had_been_asked_before(serve: Serve, data: Any) -> None:
    """A byte of a message is another one, of its data or not, or there is one more or less."""
    loss = data.draw(st.sampled_from(["cross_entropy", "huber", "info_nce", "dice"]))
    mask = np.array([True, False, True, True])
    message = request_of(_small(LOSSES[loss]), mask=mask).SerializeToString()
    told = Told(serve(), serve)
    answer(told.servicer, message)
    at = data.draw(st.integers(0, len(message) - 1))
    byte = bytes([data.draw(st.integers(0, 255))])
    end = data.draw(st.sampled_from([at, at + 1, at + 1, at + 1]))
    other = message[:at] + byte + message[end:]
    try:
        v1.ComputeLossRequest.FromString(other)
    except DecodeError:
        assert not is_planned(told.servicer, other)
    assert told.agrees_on(other)
    assert told.agrees_on(message)


class Streaming(Context):
    """A caller who is told that there is room."""

    def send_initial_metadata(self, metadata: Any, /) -> None:
        assert metadata


def streamed(servicer: LossServicer, message: bytes) -> Any:
    """The answer to a request that comes on a stream, with its tensors in the first message."""
    asked = v1.StreamLossRequest(call=v1.ComputeLossRequest.FromString(message))
    first = asked.SerializeToString()
    ticket = Admission(calls=1, request_bytes=1 << 30).enter()
    try:
        replies = list(servicer.stream_loss(iter([first]), Call(Streaming(), "id"), ticket))
    except ServiceError as error:
        return type(error), str(error), error.field, error.reason, error.details
    found = v1.StreamLossResponse.FromString(replies[0])
    found.result.ClearField("server_timing")
    return found.SerializeToString(), replies[1:]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_stream_is_answered_as_if_nothing_had_been_asked_before(serve: Serve, data: Any) -> None:
    loss = data.draw(st.sampled_from(["cross_entropy", "huber", "info_nce", "dice"]))
    message = request_of(_small(LOSSES[loss])).SerializeToString()
    asked = serve()
    answer(asked, message)
    at = data.draw(st.integers(0, len(message) - 1))
    other = message[:at] + bytes([data.draw(st.integers(0, 255))]) + message[at + 1 :]
    for each in (other, message):
        with contextlib.suppress(DecodeError):
            assert streamed(asked, each) == streamed(serve(), each)


def test_a_message_with_a_field_twice_is_read_as_protobuf_does(serve: Serve) -> None:
    told = Told(serve(), serve)
    request = request_of(_small(LOSSES["huber"]), weights=np.array([1.0, 2, 3, 4]))
    again = v1.ComputeLossRequest()
    tensors.fill(again.weights, np.array([4.0, 3, 2, 1]))
    again.weights.ClearField("shape")  # merged, or there would be eight of them
    message = request.SerializeToString() + again.SerializeToString()
    for _ in range(3):
        assert told.agrees_on(message)


# ------------------------------------------------------------------ what lies in the data


def _with(case: Case, name: str, value: Any) -> bytes:
    array = case.inputs[name].copy()
    array.reshape(-1)[1] = value
    return request_of(case.with_inputs(**{name: array})).SerializeToString()


@pytest.mark.parametrize(
    ("loss", "name", "value"),
    [
        ("cross_entropy", "targets", 4),
        ("cross_entropy", "targets", -1),
        ("huber", "predictions", np.nan),
        ("huber", "predictions", np.inf),
        ("binary_cross_entropy", "targets", 2),
        ("dice", "targets", -1),
        ("info_nce", "queries", 0),
        ("ctc", "targets", 99),
    ],
)
def test_wrong_data_is_refused_as_in_a_first_call(
    serve: Serve, loss: str, name: str, value: Any
) -> None:
    told, case = Told(serve(), serve), _small(LOSSES[loss])
    message = _with(case, name, value)
    answer(told.servicer, request_of(case).SerializeToString())

    assert is_planned(told.servicer, message)
    for _ in range(2):
        assert told.agrees_on(message)


def test_a_wrong_boolean_is_refused_by_a_known_plan_too(serve: Serve) -> None:
    case, mask = _small(LOSSES["huber"]), np.array([True, False, True, True])
    right = request_of(case, mask=mask)
    wrong = v1.ComputeLossRequest.FromString(right.SerializeToString())
    wrong.mask.data = b"\1\0\2\1"
    told = Told(serve(), serve)
    answer(told.servicer, right.SerializeToString())

    assert is_planned(told.servicer, wrong.SerializeToString())
    assert told.agrees_on(wrong.SerializeToString())
    assert answer(told.servicer, wrong.SerializeToString())[0] is InvalidTensor


def test_a_plan_holds_nothing_of_the_data(serve: Serve) -> None:
    servicer, case = serve(), _small(LOSSES["cross_entropy"])
    message = request_of(case).SerializeToString()
    answer(servicer, message)
    planned = servicer._plans.find(message)
    assert planned is not None

    assert not planned.plan.asked.inputs
    assert all(operand.rows.size == 0 for operand in planned.plan.laid.template.operands)


def test_calls_at_the_same_time_share_a_plan(serve: Serve) -> None:
    servicer = serve()
    rng = np.random.default_rng(0)
    case = _small(LOSSES["cross_entropy"])
    messages = [
        request_of(
            case.with_inputs(predictions=rng.normal(size=(4, 4)).astype(np.float32))
        ).SerializeToString()
        for _ in range(8)
    ]
    alone = [answer(serve(), message) for message in messages]
    wrong: list[int] = []

    def ask(number: int) -> None:
        found = [answer(servicer, messages[number]) for _ in range(50)]
        wrong.extend([number] * sum(one != alone[number] for one in found))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(servicer._plans) == 1


# ------------------------------------------------------------------ which are kept


def _asked(servicer: LossServicer, **options: Any) -> bytes:
    message = request_of(_small(LOSSES["huber"]), **options).SerializeToString()
    answer(servicer, message)
    return message


def test_as_many_plans_are_kept_as_may_be(serve: Serve) -> None:
    servicer = serve()
    servicer._plans = Plans(most=3)
    messages = [_asked(servicer, normalizer=1.5 + number) for number in range(5)]

    assert len(servicer._plans) == 3
    assert [is_planned(servicer, message) for message in messages] == [False] * 2 + [True] * 3


def test_the_one_that_was_not_used_for_longest_goes_first(serve: Serve) -> None:
    servicer = serve()
    servicer._plans = Plans(most=2)
    first, second = _asked(servicer), _asked(servicer, reduction="sum")
    answer(servicer, first)
    third = _asked(servicer, per_example=False)

    assert [is_planned(servicer, m) for m in (first, second, third)] == [True, False, True]


def test_plans_take_as_many_bytes_as_may_be(serve: Serve) -> None:
    servicer = serve()
    servicer._plans = Plans(most_bytes=50_000)
    for number in range(5):
        _asked(servicer, normalizer=1.5 + number)

    assert 0 < servicer._plans.nbytes <= 50_000
    assert len(servicer._plans) == 2
    case = _with_spread_numbers(2.0, pairs=1 << 13)  # which takes more alone
    answer(servicer, build_request(message_of(case), case.inputs).serialise())
    assert len(servicer._plans) == 2


def _with_spread_numbers(second: float, *, pairs: int = 1 << 11) -> Case:
    """One example of many pairs, with a weight for the first and the second of each."""
    case = plain(LOSSES["binary_cross_entropy"], rows=1, length=2 * pairs).astype(np.float32)
    inputs = {name: array.reshape(1, -1, 2) for name, array in case.inputs.items()}
    return replace(case, inputs=inputs, parameters={"positive_weights": (1.0, second)})


def test_numbers_that_are_spread_over_a_row_count(serve: Serve) -> None:
    servicer = serve()
    servicer._plans = Plans(most_bytes=80_000)
    for number in range(4):
        case = _with_spread_numbers(2.0 + number)
        answer(servicer, build_request(message_of(case), case.inputs).serialise())

    assert len(servicer._plans) == 2
    assert 2 * 4 * 4096 < servicer._plans.nbytes <= 80_000


def _bytes_kept(engine: Engine, case: Case) -> tuple[int, int]:
    """The bytes that a plan keeps, and those that it says."""
    engine.plan(case.job())  # what is imported, and kept for all plans
    gc.collect()
    tracemalloc.start()
    try:
        plan = engine.plan(case.job())
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return kept, plan.nbytes


def test_a_plan_keeps_nothing_of_the_size_of_its_batch(engine: Engine, any_loss: Loss) -> None:
    kept, said = _bytes_kept(engine, plain(any_loss, rows=64, length=1 << 12))
    assert said == 0
    assert kept <= 24 << 10


def test_a_plan_keeps_as_many_bytes_as_it_says(engine: Engine) -> None:
    kept, said = _bytes_kept(engine, _with_spread_numbers(2.0))
    assert said == 4 * 4096
    assert said <= kept <= said + (24 << 10)


def test_nothing_is_left_of_plans_that_were_dropped(serve: Serve) -> None:
    servicer = serve()
    servicer._plans = Plans(most=1)
    for rows in range(2, 40):
        case = plain(LOSSES["huber"], rows=rows, length=3).astype(np.float32)
        answer(servicer, request_of(case).SerializeToString())

    assert len(servicer._plans) == len(servicer._plans._layouts) == 1


def test_messages_of_one_length_may_have_their_data_anywhere(serve: Serve) -> None:
    """Names of other lengths move the data of messages that are as long."""
    told = Told(serve(), serve)
    again = bytes([v1.ComputeLossRequest.REDUCTION_FIELD_NUMBER << 3, v1.REDUCTION_SUM])
    for split in range(1, 60):
        request = request_of(_small(LOSSES["huber"]))
        # A field before and behind, together always as often.
        message = again * split + request.SerializeToString() + again * (60 - split)
        assert told.agrees_on(message)
        assert told.agrees_on(message)
    assert max(map(len, told.servicer._plans._layouts.values())) <= 8


ELSEWHERE = ("shared memory", "device memory", "chunks", "a reply elsewhere", "an event")


@pytest.mark.parametrize("change", ["sum", "metrics", "no tensor", "nothing", *ELSEWHERE])
def test_what_is_no_single_loss_is_not_planned(serve: Serve, change: str) -> None:
    told, request = Told(serve(), serve), request_of(_small(LOSSES["cross_entropy"]))
    if change == "sum":
        terms = v1.WeightedSum(terms=[v1.WeightedTerm(loss=request.loss)])
        request.loss.weighted_sum.CopyFrom(terms)
    elif change == "metrics":
        request.metrics.add().accuracy.SetInParent()
    elif change == "no tensor":
        request.inputs[0].tensors[0].ClearField("source")
    elif change == "shared memory":
        request.inputs[0].tensors[0].shared_memory.segment = b"x" * 16
    elif change == "device memory":
        request.inputs[0].tensors[0].device_memory.SetInParent()
    elif change == "chunks":
        request.inputs[0].tensors[0].chunks.size_bytes = 8
    elif change == "a reply elsewhere":
        request.reply.SetInParent()
    elif change == "an event":
        request.device.SetInParent()
    else:
        request.ClearField("loss")
    message = request.SerializeToString()

    for _ in range(2):
        assert told.agrees_on(message)
    assert not is_planned(told.servicer, message)
