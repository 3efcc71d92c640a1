import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from lossd import client, tensors, v1
from tests.sharing_server import SharingServer
from tests.waiting import until

INPUTS: dict[str, Any] = {
    "predictions": np.array([1, 2], np.float32),
    "targets": np.array([1, 3], np.float32),
}


def test_inputs_by_name_need_one_call_only(serve: Any, connect: Any) -> None:
    server = serve()
    with connect(server.address) as loss_client:
        result = loss_client.compute(v1.Huber(delta=2), **INPUTS)
    assert result.loss == 1.5
    assert server.calls("ListLosses") == 0
    assert server.seen["ComputeLoss"][0].loss.huber.delta == 2


def test_positional_inputs_take_names_that_are_learnt_once(serve: Any, connect: Any) -> None:
    server = serve()
    with connect(server.address) as loss_client:
        for _ in range(3):
            loss_client.compute(v1.Huber(), INPUTS["predictions"], targets=INPUTS["targets"])
    assert server.calls("ListLosses") == 1
    for request in server.seen["ComputeLoss"]:
        assert [named.name for named in request.inputs] == ["predictions", "targets"]


def test_a_call_that_lost_its_server_is_not_repeated_in_the_same_memory(
    serve: Any, connect: Any, refuse: Any, tmp_path: Path
) -> None:
    handlers = SharingServer(tmp_path).handlers()
    server = serve(ComputeLoss=refuse("UNAVAILABLE", times=1), **handlers)
    logits = np.zeros((200, 300), np.float32)
    with connect(server.address) as loss_client:
        loss_client.compute(
            v1.CrossEntropy(),
            predictions=logits,
            targets=np.zeros(200, int),
            gradients=iter(["predictions"]),
        )
    first, second = server.seen["ComputeLoss"]
    assert first.gradients.inputs == second.gradients.inputs == ["predictions"]
    assert [request.HasField("reply") for request in (first, second)] == [True, False]
    assert first.inputs[0].tensors[0].HasField("shared_memory")
    assert second.inputs[0].tensors[0].data == logits.tobytes()


def test_wrong_positional_inputs_are_refused_without_a_computation(
    serve: Any, connect: Any
) -> None:
    server = serve()
    with connect(server.address) as loss_client:
        with pytest.raises(client.InvalidRequestError, match="at most 2"):
            loss_client.compute(v1.Huber(), 1.0, 2.0, 3.0)
        with pytest.raises(client.InvalidRequestError, match="predictions must be given once"):
            loss_client.compute(v1.Huber(), 1.0, predictions=2.0)
    assert server.calls("ComputeLoss") == 0


def test_positional_inputs_of_a_loss_that_the_server_does_not_list(
    serve: Any, connect: Any
) -> None:
    with (
        connect(serve().address) as loss_client,
        pytest.raises(client.UnknownLossError, match=r"got squared_error"),
    ):
        loss_client.compute(v1.SquaredError(), 1.0, 2.0)


def test_what_the_caller_can_see_wrong_is_refused_without_a_server(connect: Any) -> None:
    with connect("127.0.0.1:9") as loss_client:
        with pytest.raises(client.InvalidRequestError, match=r"^reduction must be one of"):
            loss_client.compute(v1.Huber(), reduction="average", **INPUTS)
        with pytest.raises(client.InvalidRequestError, match=r"^gradients must be a list"):
            loss_client.compute(v1.Huber(), gradients="predictions", **INPUTS)
        with pytest.raises(client.InvalidRequestError, match=r"^timeout must be"):
            loss_client.compute(v1.Huber(), timeout=0, **INPUTS)
    with pytest.raises(client.InvalidRequestError, match=r"^timeout must be"):
        connect(timeout=-1)


def test_the_other_methods_return_what_the_server_says(serve: Any, connect: Any) -> None:
    with connect(serve().address) as loss_client:
        assert loss_client.server_info().version == "1.2.3"
        assert [loss.name for loss in loss_client.list_losses().losses] == ["huber"]


def test_a_unix_socket_is_a_target(serve: Any, tmp_path: Any, connect: Any) -> None:
    server = serve(f"unix:{tmp_path}/lossd.sock")
    with connect(server.address) as loss_client:
        loss_client.wait_until_ready(5)
        assert loss_client.compute(v1.Huber(), **INPUTS).loss == 1.5


def test_a_dns_name_is_a_target(serve: Any, connect: Any) -> None:
    with connect(f"dns:///localhost:{serve().port}") as loss_client:
        assert loss_client.server_info().version == "1.2.3"


def test_a_channel_that_was_passed_in_is_used_and_left_open(
    serve: Any, flavour: Any, connect: Any
) -> None:
    with flavour.channel(serve().address) as channel:
        for _ in range(2):
            with connect(channel=channel) as loss_client:
                assert loss_client.server_info().version == "1.2.3"


def test_errors_carry_reason_and_field_and_their_cause(
    serve: Any, refuse: Any, info: Any, connect: Any
) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="loss.huber.delta")
    bad = error_details_pb2.BadRequest(field_violations=[violation])
    handler = refuse("INVALID_ARGUMENT", "delta must be > 0, got -1", info("BOUNDS"), bad)
    server = serve(ComputeLoss=handler)
    with (
        connect(server.address) as loss_client,
        pytest.raises(client.InvalidRequestError, match=r"^delta must be > 0, got -1$") as caught,
    ):
        loss_client.compute(v1.Huber(delta=-1), **INPUTS)
    assert (caught.value.reason, caught.value.field) == ("BOUNDS", "loss.huber.delta")
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert server.calls("ComputeLoss") == 1


def test_every_call_has_an_id_of_its_own(serve: Any, connect: Any) -> None:
    server = serve()
    with connect(server.address) as loss_client:
        for _ in range(2):
            loss_client.compute(v1.Huber(), **INPUTS)
            loss_client.server_info()
            loss_client.list_losses()
    ids = [known for method in server.ids.values() for known in method]
    assert len(ids) == len(set(ids)) == 6
    assert all(ids)


def test_all_that_a_call_sends_has_the_id_that_the_caller_gave(
    serve: Any, refuse: Any, connect: Any
) -> None:
    server = serve(ComputeLoss=refuse("UNAVAILABLE", times=2))
    with connect(server.address) as loss_client:
        loss_client.compute(v1.Huber(), *INPUTS.values(), request_id="step-7")
        loss_client.server_info(request_id="info")
        loss_client.list_losses(request_id="list")
    assert server.ids == {
        "ListLosses": ["step-7", "list"],
        "ComputeLoss": ["step-7"] * 3,
        "GetServerInfo": ["info"],
    }


def test_errors_carry_the_id_that_the_server_saw(serve: Any, refuse: Any, connect: Any) -> None:
    server = serve(ComputeLoss=refuse("UNAVAILABLE"))
    with connect(server.address) as loss_client:
        with pytest.raises(client.UnavailableError) as fresh:
            loss_client.compute(v1.Huber(), timeout=2.0, **INPUTS)
        with pytest.raises(client.UnavailableError) as given:
            loss_client.compute(v1.Huber(), timeout=2.0, request_id="step-7", **INPUTS)
    assert list(dict.fromkeys(server.ids["ComputeLoss"])) == [fresh.value.request_id, "step-7"]
    assert given.value.request_id == "step-7"


def test_errors_of_the_client_carry_the_id_too(serve: Any, connect: Any) -> None:
    def lie(_request: Any, _context: Any) -> Any:
        broken = v1.Tensor(dtype=v1.D_TYPE_FLOAT32, shape=[3], data=b"x")
        return v1.ComputeLossResponse(per_example=broken)

    with connect(serve(ComputeLoss=lie).address) as loss_client:
        for message, arguments in [
            ("^response must hold valid tensors", INPUTS),
            ("^reduction must be one of", INPUTS | {"reduction": "average"}),
        ]:
            with pytest.raises(client.LossdError, match=message) as caught:
                loss_client.compute(v1.Huber(), request_id="step-7", **arguments)
            assert caught.value.request_id == "step-7"


@pytest.mark.parametrize(("method", "size"), [("ComputeLoss", 2**17), ("StreamLoss", 2**19)])
def test_a_large_request_is_repeated_while_the_server_is_unavailable(
    serve: Any, refuse: Any, connect: Any, method: str, size: int
) -> None:
    """In one message or in chunks, where gRPC's own retry would be off."""
    server = serve(**{method: refuse("UNAVAILABLE", times=2)})
    large = np.arange(size, dtype=np.float32)
    with connect(server.address) as loss_client:
        assert loss_client.compute(v1.Huber(), predictions=large, targets=large).loss == 1.5
    assert server.calls(method) == 3
    last = server.seen[method][-1]
    np.testing.assert_array_equal(tensors.read(last.inputs[0].tensors[0]), large)


def test_an_outage_is_met_with_few_retries_and_survived(
    serve: Any, refuse: Any, connect: Any
) -> None:
    server = serve(ComputeLoss=refuse("UNAVAILABLE", times=60))
    with connect(server.address) as loss_client:
        loss_client.wait_until_ready(5)
        begin = time.monotonic()
        with ThreadPoolExecutor(20) as pool:
            results = list(pool.map(lambda _: loss_client.compute(v1.Huber(), **INPUTS), range(20)))
        seconds = time.monotonic() - begin
    assert {result.loss for result in results} == {1.5}
    assert server.calls("ComputeLoss") == 80
    assert 0.1 < seconds < 15


@pytest.mark.parametrize(("method", "size"), [("ComputeLoss", 2), ("StreamLoss", 2**19)])
def test_a_call_that_its_caller_did_not_cancel_is_repeated(
    serve: Any, refuse: Any, connect: Any, method: str, size: int
) -> None:
    """A server that ends cancels what it has received and not begun."""
    server = serve(**{method: refuse("CANCELLED", "RST_STREAM", times=3)})
    given = np.zeros(size, np.float32)
    with connect(server.address) as loss_client:
        assert loss_client.compute(v1.Huber(), predictions=given, targets=given).loss == 1.5
    assert server.calls(method) == 4


def test_other_methods_are_repeated_too(serve: Any, refuse: Any, connect: Any) -> None:
    for code in ("CANCELLED", "UNAVAILABLE"):
        failing = refuse(code, times=2)

        def tell(request: Any, context: Any, failing: Any = failing) -> Any:
            failing(request, context)
            return v1.GetServerInfoResponse(version="1.2.3")

        with connect(serve(GetServerInfo=tell).address) as loss_client:
            assert loss_client.server_info().version == "1.2.3"


def is_from_grpc(error: BaseException | None) -> bool:
    """Whether an error of gRPC is at the root, or that the last attempt came too late to ask it."""
    while isinstance(error, client.LossdError) and error.__cause__ is not None:
        error = error.__cause__
    return isinstance(error, grpc.RpcError | client.DeadlineExceededError)


def test_a_call_that_a_server_keeps_cancelling_found_none(
    serve: Any, refuse: Any, connect: Any
) -> None:
    server = serve(ComputeLoss=refuse("CANCELLED", "RST_STREAM"))
    with (
        connect(server.address) as loss_client,
        pytest.raises(
            client.UnavailableError,
            match=r"its server cancelled: .* \(max_call_seconds, idle_seconds\): RST_STREAM$",
        ) as caught,
    ):
        loss_client.compute(v1.Huber(), timeout=2.0, **INPUTS)
    assert (caught.value.code, server.calls("ComputeLoss") > 1) == ("CANCELLED", True)
    assert is_from_grpc(caught.value)


def test_closing_ends_a_call_that_waits_to_be_repeated(
    serve: Any, refuse: Any, connect: Any
) -> None:
    later = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=20))
    server = serve(ComputeLoss=refuse("RESOURCE_EXHAUSTED", "busy", later))
    loss_client = connect(server.address)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(loss_client.compute, v1.Huber(), **INPUTS)
        until(lambda: server.calls("ComputeLoss") == 1)
        loss_client.close()
        with pytest.raises(client.CancelledError):
            under_way.result(5)
    assert server.calls("ComputeLoss") == 1


def test_a_channel_that_its_owner_closes_cancels_and_nothing_is_repeated(
    serve: Any, flavour: Any, connect: Any
) -> None:
    entered, done = threading.Event(), threading.Event()

    def hang(_request: Any, _context: Any) -> Any:
        entered.set()
        done.wait(5)
        return v1.ComputeLossResponse()

    server = serve(ComputeLoss=hang)
    with ThreadPoolExecutor(1) as pool:
        with flavour.channel(server.address) as channel:
            loss_client = connect(channel=channel)
            under_way = pool.submit(loss_client.compute, v1.Huber(), **INPUTS)
            assert entered.wait(5)
        with pytest.raises(client.CancelledError):
            under_way.result(5)
    done.set()
    assert server.calls("ComputeLoss") == 1


def test_retries_are_logged_with_the_id_of_their_call(
    serve: Any, refuse: Any, connect: Any, caplog: Any
) -> None:
    caplog.set_level("INFO", logger="lossd.client")
    server = serve(ComputeLoss=refuse("UNAVAILABLE", "gone", times=2))
    with connect(server.address) as loss_client:
        loss_client.compute(v1.Huber(), request_id="step-7", **INPUTS)
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    for message in caplog.messages:
        assert message.startswith("call step-7 is repeated in ")
        assert message.endswith("UNAVAILABLE: gone")


def test_retries_end_with_the_deadline(serve: Any, refuse: Any, connect: Any) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=3))
    server = serve(ComputeLoss=refuse("UNAVAILABLE", "no", retry))
    with connect(server.address) as loss_client:
        loss_client.wait_until_ready(5)
        begin = time.monotonic()
        with pytest.raises(client.UnavailableError):
            loss_client.compute(v1.Huber(), timeout=5, **INPUTS)
    assert time.monotonic() - begin < 8
    assert server.calls("ComputeLoss") == 2


def test_a_slow_server_is_not_waited_for_beyond_the_deadline(serve: Any, connect: Any) -> None:
    done = threading.Event()

    def hang(_request: Any, _context: Any) -> Any:
        done.wait(5)
        return v1.ComputeLossResponse()

    with connect(serve(ComputeLoss=hang).address) as loss_client:
        with pytest.raises(client.DeadlineExceededError):
            loss_client.compute(v1.Huber(), timeout=0.2, **INPUTS)
        done.set()


@pytest.mark.parametrize("slow", ["token", "target"])
@pytest.mark.parametrize("size", [2, 1 << 20])
def test_what_is_slow_before_a_call_takes_of_its_time(
    serve: Any, connect: Any, slow: str, size: int
) -> None:
    """Nothing ends the caller's own functions, but a call does not begin anew after them."""
    server = serve()

    def answer(word: str) -> str:
        time.sleep(0.4)
        return word

    functions = {"token": lambda: answer("secret"), "target": lambda: answer(server.address)}
    options = {"target": server.address, slow: functions[slow]}
    batch = np.zeros(size, np.float32)
    late = pytest.raises(client.DeadlineExceededError, match=r"must be(gin| prepared) within")
    with connect(**options) as loss_client, late:
        loss_client.compute(v1.Huber(), predictions=batch, targets=batch, timeout=0.3)
    assert not server.calls("ComputeLoss")
    assert not server.calls("StreamLoss")


def test_a_slow_target_takes_of_the_wait_for_a_server(connect: Any, serve: Any) -> None:
    address = serve().address

    def slow() -> str:
        time.sleep(0.4)
        return str(address)

    with connect(slow) as loss_client, pytest.raises(client.DeadlineExceededError):
        loss_client.wait_until_ready(0.3)


def test_who_waits_in_vain_for_a_server_is_told_where(connect: Any, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/none"
    said = re.escape(
        f"server at {address} must be ready within 0.2 s, got no healthy connection: "
        'is "lossd serve" running there, with TLS or without as tls says?'
    )
    with connect(address) as loss_client, pytest.raises(client.DeadlineExceededError, match=said):
        loss_client.wait_until_ready(0.2)


def test_a_busy_server_is_asked_again_when_it_said(serve: Any, refuse: Any, connect: Any) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=150_000_000))
    server = serve(ComputeLoss=refuse("RESOURCE_EXHAUSTED", "busy", retry, times=1))
    with connect(server.address) as loss_client:
        loss_client.wait_until_ready(5)
        begin = time.monotonic()
        assert loss_client.compute(v1.Huber(), **INPUTS).loss == 1.5
    assert time.monotonic() - begin >= 0.15


def test_a_busy_server_that_said_nothing_is_not_asked_again(
    serve: Any, refuse: Any, connect: Any
) -> None:
    server = serve(ComputeLoss=refuse("RESOURCE_EXHAUSTED", "too large"))
    with connect(server.address) as loss_client, pytest.raises(client.OverloadedError):
        loss_client.compute(v1.Huber(), **INPUTS)
    assert server.calls("ComputeLoss") == 1


def test_responses_beyond_the_usual_limit_arrive(serve: Any, connect: Any) -> None:
    values = np.arange(2**21, dtype=np.float32)  # 8 MiB; gRPC's own limit is 4

    def answer(_request: Any, _context: Any) -> Any:
        response = v1.ComputeLossResponse()
        tensors.fill(response.per_example, values)
        return response

    with connect(serve(ComputeLoss=answer).address) as loss_client:
        result = loss_client.compute(v1.Huber(), **INPUTS)
    np.testing.assert_array_equal(result.per_example, values)


def test_two_addresses_are_both_used(serve: Any, connect: Any) -> None:
    servers = [serve(), serve()]
    with connect(joined(servers)) as loss_client:
        until(lambda: loss_client.server_info().version and all_called(servers))


def test_an_address_that_does_not_serve_is_avoided(serve: Any, connect: Any) -> None:
    healthy, draining = servers = [serve(), serve()]
    with connect(joined(servers)) as loss_client:
        until(lambda: loss_client.server_info().version and all_called(servers))
        draining.set_serving(serving=False)
        until(lambda: unused_for(draining, loss_client, calls=6))
        assert healthy.calls("GetServerInfo") > 6
        draining.set_serving(serving=True)
        before = draining.calls("GetServerInfo")
        until(
            lambda: loss_client.server_info().version and draining.calls("GetServerInfo") > before,
        )


def test_nobody_being_ready_is_told_in_time(serve: Any, connect: Any) -> None:
    server = serve()
    server.set_serving(serving=False)
    with connect(server.address) as loss_client:
        with pytest.raises(client.DeadlineExceededError, match=r"ready within"):
            loss_client.wait_until_ready(0.1)
        server.set_serving(serving=True)
        loss_client.wait_until_ready(5)


def test_a_closed_client_refuses_and_closing_cancels_what_is_under_way(
    serve: Any, connect: Any
) -> None:
    entered, done = threading.Event(), threading.Event()

    def hang(_request: Any, _context: Any) -> Any:
        entered.set()
        done.wait(5)
        return v1.ComputeLossResponse()

    loss_client = connect(serve(ComputeLoss=hang).address)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(loss_client.compute, v1.Huber(), **INPUTS)
        assert entered.wait(5)
        loss_client.close()
        with pytest.raises(client.CancelledError):
            under_way.result(5)
    done.set()
    with pytest.raises(client.InvalidRequestError, match=r"^client must be open"):
        loss_client.compute(v1.Huber(), **INPUTS)


def test_many_threads_share_a_client(serve: Any, connect: Any) -> None:
    def echo(request: Any, _context: Any) -> Any:
        response = v1.ComputeLossResponse()
        response.per_example.CopyFrom(request.inputs[0].tensors[0])
        return response

    with connect(serve(ComputeLoss=echo).address) as loss_client:

        def compute(number: Any) -> Any:
            values = np.full(5, number, np.float32)
            result = loss_client.compute(v1.Huber(), values, targets=values)
            return None if result.per_example is None else result.per_example[0]

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(compute, range(200))) == list(range(200))


def joined(servers: Any) -> Any:
    return "ipv4:" + ",".join(server.address for server in servers)


def all_called(servers: Any) -> Any:
    return all(server.calls("GetServerInfo") for server in servers)


def unused_for(server: Any, loss_client: Any, calls: Any) -> Any:
    before = server.calls("GetServerInfo")
    for _ in range(calls):
        loss_client.server_info()
    return server.calls("GetServerInfo") == before


def test_closing_ends_a_wait_for_a_server_at_once(connect: Any) -> None:
    loss_client = connect("localhost:1")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(loss_client.wait_until_ready, 60)
        time.sleep(0.3)  # so that it has begun; one that has not is refused as a later one
        loss_client.close()
        refused = client.CancelledError, client.InvalidRequestError
        with pytest.raises(refused, match="got a closed"):
            waiting.result(20)
    with pytest.raises(client.InvalidRequestError, match="client must be open"):
        loss_client.wait_until_ready(60)


def test_a_target_that_is_found_late_is_waited_for(serve: Any, connect: Any) -> None:
    server = serve()
    found = iter([LookupError("nobody is there"), server.address])

    def find() -> str:
        target = next(found, server.address)
        if isinstance(target, LookupError):
            raise target
        return str(target)

    with connect(find) as loss_client:
        loss_client.wait_until_ready(20)


def test_a_closed_client_has_no_memory_to_give(serve: Any, connect: Any) -> None:
    loss_client = connect(serve().address)
    loss_client.close()
    for make in (loss_client.empty, loss_client.device_empty):
        with pytest.raises(client.InvalidRequestError, match="client must be open"):
            make(3)


@pytest.mark.parametrize(
    "wrong",
    [
        -1, (2, -1), 1.5, True, (True, 2), "3", b"3", "", bytearray(b"3"), memoryview(b"3"), None,
        1 << 50, (1 << 50,), (1 << 40, 1 << 40), (1 << 62,), (1 << 70,), object(),
    ],
)  # fmt: skip
def test_a_shape_that_no_array_has_is_refused_by_name(serve: Any, connect: Any, wrong: Any) -> None:
    with connect(serve().address) as loss_client:
        for make in (loss_client.empty, loss_client.device_empty):
            with pytest.raises(
                client.InvalidRequestError, match=r"^shape must be .*, got "
            ) as told:
                make(wrong)
            assert told.value.field == "shape"
            with pytest.raises(client.InvalidRequestError, match=r"^dtype must be .*, got") as told:
                make(3, "float99")
            assert told.value.field == "dtype"


# What can be asked of a client.
CALLS: dict[str, Callable[[Any], Any]] = {
    "compute": lambda asked: asked.compute(v1.Huber(), *INPUTS.values()),
    "device_empty": lambda asked: asked.device_empty(3),
    "empty": lambda asked: asked.empty(3),
    "evaluate": lambda asked: asked.evaluate(v1.Accuracy(), **INPUTS),
    "evaluation": lambda asked: asked.evaluation(v1.Accuracy()),
    "input_names": lambda asked: asked.input_names(v1.Huber()),
    "list_losses": lambda asked: asked.list_losses(),
    "list_metrics": lambda asked: asked.list_metrics(),
    "server_info": lambda asked: asked.server_info(),
    "submit": lambda asked: asked.submit(v1.Huber(), **INPUTS),
    "wait_until_ready": lambda asked: asked.wait_until_ready(5),
}


def test_a_closed_client_refuses_whatever_it_is_asked(serve: Any, connect: Any) -> None:
    """Also what it knows by itself, and what would fail only later."""
    methods = {name for name in dir(client.LossClient) if not name.startswith("_")}
    assert methods == {*CALLS, "close"}
    loss_client = connect(serve().address)
    assert loss_client.input_names(v1.Huber()) == ("predictions", "targets")
    loss_client.close()
    for name, call in CALLS.items():
        if hasattr(client.AsyncLossClient, name) or isinstance(loss_client, client.LossClient):
            with pytest.raises(client.InvalidRequestError, match=r"^client must be open"):
                call(loss_client)


@pytest.mark.parametrize("wrong", [None, 1.5, "é", [1], 10**400, object()])
def test_wrong_options_are_refused_by_name(connect: Any, wrong: Any) -> None:
    loss_client = connect("localhost:1")
    for name in ("return_state", "progress"):
        if name == "return_state" or not isinstance(wrong, int):
            with pytest.raises(client.InvalidRequestError, match=f"{name} must be True"):
                loss_client.evaluation(v1.Accuracy(), **{name: wrong})
    if wrong is not None:
        with pytest.raises(client.InvalidRequestError, match="channel must be a channel of gRPC"):
            connect("localhost:1", channel=wrong)
    if not isinstance(wrong, str | list):
        with pytest.raises(client.InvalidRequestError, match="states must be a list of bytes"):
            loss_client.evaluate(v1.Accuracy(), states=wrong, **INPUTS)


@pytest.mark.parametrize("wrong", ["False", 2, [True], np.zeros(2)], ids=repr)
def test_flags_of_a_batch_are_refused_by_name(connect: Any, wrong: Any) -> None:
    loss_client = connect("localhost:1")
    for name in ("per_example", "lint"):
        with pytest.raises(client.InvalidRequestError, match=f"^{name} must be True or False, got"):
            loss_client.compute(v1.Huber(), **INPUTS, **{name: wrong})


@pytest.mark.parametrize("wrong", [np.array(["accuracy", "f1"]), {}, "", b"", 0], ids=repr)
def test_what_is_no_metric_beside_a_loss_is_refused(connect: Any, wrong: Any) -> None:
    """Also what is false or has no truth, which is not the same as no metrics."""
    with pytest.raises(client.InvalidRequestError, match=r"^(metric|name) must be"):
        connect("localhost:1").compute(v1.Huber(), **INPUTS, metrics=wrong)


def test_nothing_takes_no_shared_memory(serve: Any, connect: Any, tmp_path: Path) -> None:
    server = serve(**SharingServer(tmp_path).handlers())
    with connect(server.address) as loss_client:
        assert loss_client.empty(0).shape == loss_client.empty((0,), "u1").shape == (0,)
        assert server.calls("AttachSegment") == 0
        loss_client.empty(1 << 20)
        assert server.calls("AttachSegment") == 1
