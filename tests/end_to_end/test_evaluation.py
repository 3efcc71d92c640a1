"""Metrics through a server in another process, with both clients."""

import asyncio
import contextlib
import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics

from lossd import v1
from lossd.client import (
    AsyncLossClient,
    CancelledError,
    DeadlineExceededError,
    InvalidRequestError,
    LossClient,
    LossdError,
    OverloadedError,
    UnavailableError,
    UnknownMetricError,
)
from lossd.evaluation import METRICS
from lossd.naming import members_of
from lossd.v1 import F1, Accuracy, Bleu, ConfusionMatrix, RocAuc
from tests.end_to_end.conftest import Process, serve
from tests.waiting import until


def logits() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(500).astype(np.float32)


def targets() -> npt.NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, 2, 500)


def weights() -> npt.NDArray[np.float64]:
    return np.random.default_rng(2).uniform(0, 2, 500)


def test_one_metric_gives_one_result(client: LossClient) -> None:
    result = client.evaluate(RocAuc(), predictions=logits(), targets=targets())

    assert result.value == pytest.approx(metrics.roc_auc_score(targets(), logits()), rel=1e-12)
    assert (result.metric, result.status, result.reason) == ("roc_auc", None, "")
    assert (result.example_count, result.ignored_count) == (500, 0)


def test_several_metrics_share_their_tensors(client: LossClient) -> None:
    auc, accuracy, matrix = client.evaluate(
        [RocAuc(), Accuracy(), ConfusionMatrix()],
        predictions=logits(),
        targets=targets(),
        mask=np.arange(500) < 400,
    )
    assert auc.value == pytest.approx(metrics.roc_auc_score(targets()[:400], logits()[:400]))
    assert accuracy.value == (targets()[:400] == (logits()[:400] > 0)).mean()
    assert matrix.value is None
    assert matrix.status is None
    assert matrix.values.sum() == 400
    assert accuracy.ignored_count == 100


def test_a_stream_of_batches_gives_the_result_of_one_call(client: LossClient) -> None:
    whole = client.evaluate(
        [RocAuc(), F1()], predictions=logits(), targets=targets(), weights=weights()
    )
    with client.evaluation(RocAuc(), F1()) as run:
        for part in np.array_split(np.arange(500), 7):
            run.update(predictions=logits()[part], targets=targets()[part], weights=weights()[part])
        results = run.result()
        assert isinstance(results, list)
        assert run.result() is not results  # it may be asked for again
    assert [r.value for r in results] == [r.value for r in whole]
    assert results[0].example_count == 500


def test_states_of_workers_give_the_result_of_one_call(client: LossClient) -> None:
    whole = client.evaluate(
        [RocAuc(), F1()], predictions=logits(), targets=targets(), weights=weights()
    )
    states = []
    for part in (slice(0, 10), slice(10, 10), slice(10, 300)):
        with client.evaluation(RocAuc(), F1(), return_state=True) as run:
            run.update(predictions=logits()[part], targets=targets()[part], weights=weights()[part])
            states.append(run.state)
    rest = slice(300, 500)
    merged = client.evaluate(
        [F1(), RocAuc()],  # the order does not matter, a state names its metric
        states=states,
        predictions=logits()[rest],
        targets=targets()[rest],
        weights=weights()[rest],
    )
    assert [r.value for r in merged] == [r.value for r in reversed(whole)]
    with client.evaluation(RocAuc(), F1()) as run:
        run.update(predictions=logits()[rest], targets=targets()[rest], weights=weights()[rest])
        run.merge(b"".join(states))  # joined end to end they are a state, too
        results = run.result()
    assert isinstance(results, list)
    assert [r.value for r in results] == [r.value for r in whole]


def test_texts_and_token_ids(client: LossClient) -> None:
    texts: dict[str, Any] = {
        "hypotheses": ["The dog bit the man.", "It wasn't surprising."],
        "references": [["The dog bit the man.", "The dog had bit the man."], ["It was not."]],
    }
    bleu = client.evaluate(Bleu(), **texts)
    assert bleu.value is not None
    assert 0 < bleu.value < 100
    assert bleu.signature.startswith("nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    ids = client.evaluate(
        Bleu(order=2), hypotheses=[np.array([1, 2, 3])], references=[[[1, 2, 3], [4]]]
    )
    assert ids.value == pytest.approx(100)
    assert "tok:ids" in ids.signature


def test_what_is_not_defined_has_a_status_and_a_reason(client: LossClient) -> None:
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"predictions": [1.0, 2.0], "targets": [1, 1]}, "UNDEFINED", "targets hold no negative"),
        ({"predictions": [np.nan], "targets": [1]}, "NONFINITE", "1 of 1 examples are not finite"),
        ({"predictions": np.zeros(0), "targets": np.zeros(0, int)}, "UNDEFINED", "no example"),
    ]
    for given, status, reason in cases:
        result = client.evaluate(RocAuc(), **given)
        assert (result.value, result.status) == (None, status)
        assert reason in result.reason


def test_a_refused_batch_ends_the_stream_with_its_error(client: LossClient) -> None:
    with client.evaluation(Accuracy()) as run:
        run.update(predictions=[1.0], targets=[5])
        with pytest.raises(InvalidRequestError, match="must be in") as refused:
            run.result()
    assert str(refused.value) == "targets[0] must be in [0, 2), got 5"
    assert refused.value.metadata["part"] == "1"
    with client.evaluation(Accuracy()) as run:
        run.update(predictions=[[1.0, 2.0]], targets=[1])
        run.update(predictions=[[1.0, 2.0, 3.0]], targets=[1])
        with pytest.raises(InvalidRequestError, match="agree on the number of classes") as other:
            run.result()
    assert other.value.metadata["part"] == "2"


def test_an_evaluation_that_has_ended_takes_no_more(client: LossClient) -> None:
    with client.evaluation(Accuracy()) as run:
        run.update(predictions=[1.0], targets=[1])
        run.result()
        with pytest.raises(InvalidRequestError, match="evaluation must be open"):
            run.update(predictions=[1.0], targets=[1])
        with pytest.raises(InvalidRequestError, match="state must be asked for"):
            run.state  # noqa: B018 - reading it is the call


def test_an_evaluation_is_entered_once(server: Process, client: LossClient) -> None:
    """A second stream would stay until its deadline, with a place of the server's."""
    run = client.evaluation(Accuracy(), timeout=60)
    with pytest.raises(InvalidRequestError, match="open, got one that has not begun"):
        run.update(predictions=[1.0], targets=[1])
    with run:
        with pytest.raises(InvalidRequestError, match="must be entered once"), run:
            pass
        run.update(predictions=[1.0], targets=[1])
        assert run.result().value == 1.0
    with pytest.raises(InvalidRequestError, match="must be entered once"), run:
        pass
    with client.evaluation(Accuracy(), timeout=60) as left:
        pass
    with pytest.raises(LossdError):  # the batch would be lost
        left.update(predictions=[1.0], targets=[1])

    async def enter_twice() -> None:
        async with AsyncLossClient(server.address) as other:
            async with other.evaluation(Accuracy(), timeout=60) as own:
                with pytest.raises(InvalidRequestError, match="must be entered once"):
                    await own.__aenter__()
                await own.update(predictions=[1.0], targets=[1])
                assert (await own.result()).value == 1.0
            until(lambda: scraped(server, "lossd_inflight_requests") == 0)

    asyncio.run(enter_twice())


def test_an_evaluation_of_asyncio_stays_in_its_event_loop(server: Process) -> None:
    """A batch would be added by a call that raises, and then again."""
    client = AsyncLossClient(server.address)
    run = client.evaluation(Accuracy(), return_state=True)
    batch = {"predictions": [1.0, -1.0], "targets": [1, 1]}

    async def begin() -> None:
        await run.__aenter__()
        await run.update(**batch)

    async def end() -> Any:
        result = await run.result()
        await run.__aexit__(None, None, None)
        await client.close()
        return result

    with asyncio.Runner() as first:
        first.run(begin())
        for step in (lambda: run.update(**batch), lambda: run.merge(b""), run.result, run.state):
            with asyncio.Runner() as second, pytest.raises(InvalidRequestError) as told:
                second.run(step())
            assert told.value.message == "client must stay in one event loop, got a second one"
        result = first.run(end())

    assert (result.value, result.example_count) == (0.5, 2)


def test_tasks_may_add_batches_at_the_same_time(server: Process, client: LossClient) -> None:
    """gRPC takes one message at a time: those that came beside it made all wait for the timeout."""
    parts = np.array_split(np.arange(500), 12)
    batches = [{"predictions": logits()[part], "targets": targets()[part]} for part in parts]
    whole = client.evaluate([RocAuc(), F1()], predictions=logits(), targets=targets())

    async def gathered() -> Any:
        async with (
            AsyncLossClient(server.address) as other,
            other.evaluation(RocAuc(), F1(), timeout=30, return_state=True) as run,
        ):
            await asyncio.gather(*(run.update(**batch) for batch in batches))
            found = await asyncio.gather(run.result(), run.state(), run.result())
            with pytest.raises(InvalidRequestError, match="evaluation must be open"):
                await run.update(**batches[0])
            return found

    first, state, second = asyncio.run(gathered())
    for results in (first, second, client.evaluate([RocAuc(), F1()], states=[state])):
        assert [r.value for r in results] == [r.value for r in whole]
        assert results[0].example_count == 500


def test_every_task_is_told_which_rule_a_batch_of_the_evaluation_broke(server: Process) -> None:
    async def gathered() -> list[Any]:
        async with (
            AsyncLossClient(server.address) as other,
            other.evaluation(Accuracy(), timeout=30) as run,
        ):
            await run.update(predictions=[1.0], targets=[5])
            steps = [run.update(predictions=[1.0], targets=[1]) for _ in range(30)]
            return await asyncio.gather(*steps, run.result(), return_exceptions=True)

    *steps, last = asyncio.run(gathered())
    told = [error for error in steps if error is not None]
    assert isinstance(last, InvalidRequestError)
    assert {str(error) for error in (*told, last)} == {"targets[0] must be in [0, 2), got 5"}


@pytest.mark.parametrize("step", ["update", "result"])
def test_an_evaluation_of_which_a_step_was_cancelled_is_not_whole(
    server: Process, step: str
) -> None:
    batch = {"predictions": np.eye(1000, dtype=np.float32), "targets": np.arange(1000)}

    async def told() -> list[str]:
        async with AsyncLossClient(server.address) as client, client.evaluation(Accuracy()) as run:
            await run.update(**batch)
            given_up = asyncio.create_task(
                run.update(**batch) if step == "update" else run.result()
            )
            waiting = asyncio.create_task(run.update(**batch))
            await asyncio.sleep(0)
            given_up.cancel()
            later = [waiting, run.update(**batch), run.result()]
            with pytest.raises(asyncio.CancelledError):
                await given_up
            found = await asyncio.gather(*later, return_exceptions=True)
            assert all(isinstance(error, CancelledError) for error in found)
            return [str(error) for error in found]

    assert asyncio.run(told()) == [f"evaluation must be whole, got a cancelled {step}"] * 3


def test_a_step_that_is_cancelled_before_its_turn_takes_nothing_along(server: Process) -> None:
    batch = {"predictions": np.eye(1000, dtype=np.float32), "targets": np.arange(1000)}

    async def counted() -> Any:
        async with AsyncLossClient(server.address) as client, client.evaluation(Accuracy()) as run:
            first = asyncio.create_task(run.update(**batch))
            second = asyncio.create_task(run.update(**batch))
            await asyncio.sleep(0)
            second.cancel()
            await first
            return await run.result()

    assert asyncio.run(counted()).example_count == 1000


def test_a_list_of_metrics_has_a_list_of_results(server: Process, client: LossClient) -> None:
    batch: dict[str, Any] = {"predictions": logits(), "targets": targets()}

    async def listed() -> Any:
        async with (
            AsyncLossClient(server.address) as other,
            other.evaluation([Accuracy(), "f1"]) as run,
        ):
            await run.update(**batch)
            return await run.result()

    whole = client.evaluate([Accuracy(), "f1"], **batch)
    with client.evaluation([Accuracy(), "f1"]) as run, client.evaluation(["f1"]) as single:
        run.update(**batch)
        single.update(**batch)
        for found in (run.result(), asyncio.run(listed())):
            assert [result.value for result in found] == [result.value for result in whole]
        assert [result.value for result in single.result()] == [whole[1].value]


def test_an_evaluation_that_takes_too_long_is_told_its_timeout(server: Process) -> None:
    async def late(other: AsyncLossClient) -> None:
        async with other, other.evaluation(Accuracy(), timeout=0.2) as run:
            await asyncio.sleep(0.4)
            await run.update(predictions=[1.0], targets=[1])
            await run.result()

    rule = "^call must be (answered within its timeout|done before its deadline), got"
    with LossClient(server.address) as client, client.evaluation(Accuracy(), timeout=0.2) as run:
        time.sleep(0.4)
        with pytest.raises(DeadlineExceededError, match=rule):
            run.result()
        with pytest.raises(DeadlineExceededError, match=rule):
            asyncio.run(late(AsyncLossClient(server.address)))


def test_the_time_of_an_evaluation_begins_when_it_is_entered(server: Process, connect: Any) -> None:
    with connect(server.address) as client:
        run = client.evaluation(Accuracy(), timeout=2.0)
        time.sleep(2.1)
        with run:
            run.update(predictions=[1.0], targets=[1])
            assert run.result().value == 1.0


def test_an_evaluation_that_found_nobody_may_be_entered_later(connect: Any, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/lossd.sock"
    with connect(address) as client:
        run = client.evaluation(Accuracy(), timeout=10)
        failed = client.evaluation(Accuracy(), timeout=0.3)
        with pytest.raises((UnavailableError, DeadlineExceededError)), failed:
            pass
        with serve("--backend", "numpy", address=address), run:
            run.update(predictions=[1.0], targets=[1])
            assert run.result().value == 1.0


def test_to_add_a_batch_takes_no_lock_of_grpcs(client: LossClient) -> None:
    """An interrupt from the keyboard would leave it locked, and the client would hang."""
    with client.evaluation(Accuracy()) as run, ThreadPoolExecutor(1) as threads:
        with run._stream._call._state.condition:
            threads.submit(run.update, predictions=[1.0], targets=[1]).result(10)
        assert run.result().example_count == 1


def test_an_evaluation_needs_something_to_evaluate(server: Process, connect: Any) -> None:
    with connect(server.address) as client:
        nothings: list[dict[str, Any]] = [{}, {"states": []}, {"predictions": None}]
        for given in nothings:
            with pytest.raises(InvalidRequestError, match="inputs must be given, or") as caught:
                client.evaluate(Accuracy(), **given)
            assert caught.value.field == "inputs"
        for kept in ({"weights": [1.0]}, {"mask": [True]}):
            with pytest.raises(InvalidRequestError, match="predictions must be given"):
                client.evaluate(Accuracy(), **kept)


def test_a_batch_of_an_evaluation_has_inputs(client: LossClient) -> None:
    with client.evaluation(Accuracy()) as run:
        with pytest.raises(InvalidRequestError, match="inputs must be given, got none"):
            run.update()
        run.merge()  # of no other evaluations
        assert run.result().example_count == 0


def test_errors_name_the_field(client: LossClient) -> None:
    with pytest.raises(InvalidRequestError, match=r"top_k must be in") as caught:
        client.evaluate([F1(), Accuracy(top_k=0)], predictions=[1.0], targets=[1])
    assert caught.value.field == "metrics[1].accuracy.top_k"
    with pytest.raises(InvalidRequestError, match="did you mean predictions") as caught:
        client.evaluate(F1(), prediction=[1.0], targets=[1])  # type: ignore[call-overload]
    assert caught.value.field == "batch.inputs[0].name"
    with pytest.raises(
        InvalidRequestError, match="inputs must be among predictions, targets, got 'hypotheses'"
    ):
        client.evaluate(F1(), hypotheses=["a"], references=["a"])
    with pytest.raises(
        InvalidRequestError, match="inputs must be among hypotheses, references, got 'predictions'"
    ):
        client.evaluate(Bleu(), predictions=[1.0], targets=[1])
    with pytest.raises(InvalidRequestError, match="predictions must be given for F1, got nothing"):
        client.evaluate(F1(), targets=[1])
    with pytest.raises(InvalidRequestError, match="different"):
        client.evaluate([F1(), F1()], targets=[1])
    with pytest.raises(UnknownMetricError):
        client.evaluate(v1.MetricSpec.FromString(b"\xaa\x1f\x00"), targets=[1])


def test_every_metric_answers_its_own_hand_worked_examples(client: LossClient) -> None:
    for metric in METRICS.values():
        for example in metric.examples:
            message = getattr(v1, metric.message)(**wire(metric, example.parameters))
            result = client.evaluate(message, **example.inputs)
            assert result.metric == metric.name
            if example.value is None:
                assert result.values.tolist() == example.values
            else:
                assert result.value == pytest.approx(example.value, rel=1e-12)


def wire(metric: Any, parameters: Any) -> dict[str, Any]:
    """Parameters as a message takes them."""
    fields = getattr(v1, metric.message).DESCRIPTOR.fields_by_name
    found = {}
    for name, given in parameters.items():
        enum = fields[name].enum_type
        found[name] = given if enum is None else members_of(enum)[given.name]
    return found


def test_evaluations_are_counted_by_metric(server: Process, client: LossClient) -> None:
    def counted(status: str) -> float:
        return scraped(server, rf'lossd_evaluations_total\{{metric="chrf",status="{status}"\}}')

    before = counted("OK"), counted("INVALID_ARGUMENT")
    client.evaluate(v1.Chrf(), hypotheses=["a"], references=[["a"]])
    with pytest.raises(InvalidRequestError):
        client.evaluate(v1.Chrf(), hypotheses=["a"], references=[])
    assert (counted("OK"), counted("INVALID_ARGUMENT")) == (before[0] + 1, before[1] + 1)


def test_streams_leave_threads_for_other_calls() -> None:
    with (
        serve("--backend", "numpy", "--max-calls", "4") as process,
        LossClient(process.address) as client,
        contextlib.ExitStack() as stack,
    ):
        runs = [stack.enter_context(client.evaluation(F1())) for _ in range(2)]
        with (
            pytest.raises(OverloadedError, match="must be at most 2, got 3") as refused,
            client.evaluation(F1(), timeout=1),
        ):
            pass
        assert refused.value.metadata["limit"] == "2"
        assert scraped(process, r'lossd_rejected_total\{reason="TOO_MANY_STREAMS"\}') >= 2
        assert client.evaluate(F1(), predictions=[1.0], targets=[1]).value == 1.0
        assert [run.result().example_count for run in runs] == [0, 0]


def test_a_stream_that_is_broken_off_leaves_nothing_behind() -> None:
    with serve("--backend", "numpy") as process, LossClient(process.address) as other:
        with other.evaluation(RocAuc()) as run:
            run.update(predictions=logits(), targets=targets())
            until(lambda: scraped(process, "lossd_inflight_bytes") > 0)
        until(lambda: scraped(process, "lossd_inflight_bytes") == 0)
        assert scraped(process, "lossd_inflight_requests") == 0


def scraped(process: Process, series: str) -> float:
    """The value of a series of the server's metrics; 0 before it exists."""
    with urllib.request.urlopen(process.metrics_url, timeout=5) as reply:  # noqa: S310 - ours
        found = re.search(rf"^{series} (\S+)", reply.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_asyncio_evaluates_alike(server: Process, client: LossClient) -> None:
    whole = client.evaluate([RocAuc(), F1()], predictions=logits(), targets=targets())

    async def run_all() -> tuple[Any, Any, bytes]:
        async with AsyncLossClient(server.address) as other:
            once = await other.evaluate([RocAuc(), F1()], predictions=logits(), targets=targets())
            async with other.evaluation(RocAuc(), F1(), return_state=True) as run:
                for part in np.array_split(np.arange(500), 3):
                    await run.update(predictions=logits()[part], targets=targets()[part])
                streamed = await run.result()
                state = await run.state()
            async with other.evaluation(F1()) as wrong:
                await wrong.update(predictions=[1.0], targets=[7])
                with pytest.raises(InvalidRequestError, match="must be in"):
                    await wrong.result()
            return once, streamed, state

    once, streamed, state = asyncio.run(run_all())
    for results in (once, streamed, client.evaluate([RocAuc(), F1()], states=[state])):
        assert [r.value for r in results] == [r.value for r in whole]


def test_the_service_is_listed_by_health(server: Process) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    with grpc.insecure_channel(server.address) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="lossd.v1.EvaluationService"), timeout=5
        )
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
