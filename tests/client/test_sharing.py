"""Shared memory after calls that fail; the server's answers are made up here."""

import asyncio
import contextlib
import errno
import functools
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd import v1
from lossd.client.call import ATTACH_SEGMENT, GET_SERVER_INFO, LIST_LOSSES
from lossd.client.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidRequestError,
    LossdError,
    OverloadedError,
    PermissionDeniedError,
    ServerError,
    UnavailableError,
)
from lossd.client.lease import ClientLease
from lossd.client.requests import build_request
from lossd.client.retry import Retrier
from lossd.client.sharing import Sharing
from lossd.framing import Framed
from tests.sharing_server import SharingServer

LOGITS = np.zeros((200, 300), np.float32)


@pytest.fixture
def server(tmp_path: Path) -> SharingServer:
    return SharingServer(tmp_path)


@pytest.fixture
def sharing(server: SharingServer) -> Sharing:
    return Sharing(server.ask)


def filled(lease: ClientLease) -> v1.ComputeLossRequest:
    inputs = {"predictions": LOGITS, "targets": np.zeros(200, int)}
    request = lease.request(functools.partial(build_request, v1.CrossEntropy(), inputs))
    assert isinstance(request, Framed)
    return request.message


def failed(sharing: Sharing, error: BaseException) -> v1.ComputeLossRequest:
    """The request of a call that ended in an error."""
    with contextlib.suppress(type(error)), ClientLease(sharing) as lease:
        request = filled(lease)
        raise error
    return request


@pytest.mark.parametrize(
    "error",
    [
        DeadlineExceededError("late"),
        ServerError("proxy"),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
    ],
)
def test_where_the_server_may_still_write_nothing_else_is_put(
    server: SharingServer, sharing: Sharing, error: BaseException
) -> None:
    retired = failed(sharing, error).reply.start.segment
    asked = server.questions
    with ClientLease(sharing) as lease:
        assert filled(lease).reply.start.segment != retired
    assert server.detached == [retired]
    assert server.questions == asked + 2  # nothing before it needed another


def test_a_call_that_was_refused_and_then_late_keeps_others_from_its_reply(
    server: SharingServer, sharing: Sharing
) -> None:
    """It raises why it was refused, which says more, though the server may still write."""
    refusal = OverloadedError("busy", reason="TOO_MANY_CALLS", retry_delay=0.01)
    attempts = iter([refusal, DeadlineExceededError("late")])

    def attempt(_: float) -> None:
        raise next(attempts)

    with pytest.raises(OverloadedError) as caught:
        Retrier().call(attempt, 0.5)
    retired = failed(sharing, caught.value).reply.start.segment
    with ClientLease(sharing) as lease:
        assert filled(lease).reply.start.segment != retired
    assert server.detached == [retired]


def test_a_lost_call_keeps_others_from_its_reply_while_memory_is_set_up(
    server: SharingServer,
) -> None:
    """A server of which the connection alone was lost may still write there."""
    begun, goes_on = threading.Event(), threading.Event()

    def ask(method: Any, request: Any, timeout: float) -> Any:
        if method is ATTACH_SEGMENT and request.size > 1 << 22:
            begun.set()
            assert goes_on.wait(10)
        return server.ask(method, request, timeout)

    sharing = Sharing(ask)
    with ThreadPoolExecutor(1) as pool:
        with ClientLease(sharing, time.monotonic() + 1) as lease:
            written_to = filled(lease).reply.start.segment
            other = pool.submit(sharing.block, 1 << 23)
            assert begun.wait(10)
            assert lease.is_lost(UnavailableError("gone"))
        goes_on.set()
        assert other.result() is not None
    block = sharing.block(1 << 16)
    assert block is not None
    assert block.segment.token != written_to


def test_closing_lets_go_what_calls_were_given_up_with(
    server: SharingServer, sharing: Sharing
) -> None:
    failed(sharing, DeadlineExceededError("late"))
    sharing.close()
    assert sorted(server.detached) == sorted(server.attached)
    assert server.attached


def test_what_calls_need_no_more_is_let_go_after_a_while(
    server: SharingServer, sharing: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other clients may want the memory; a loop keeps its own, however slow it is."""
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    many = [sharing.block(1 << 20) for _ in range(5)]

    def step(seconds: float) -> bytes:
        now[0] += seconds
        with ClientLease(sharing) as lease:
            return filled(lease).reply.start.segment

    step(1)
    del many
    used = step(1)
    assert not server.detached
    assert {step(20), step(20), step(1)} == {used}
    assert sorted([*server.detached, used]) == sorted(server.attached)
    assert len(server.attached) == 6


def test_what_the_server_has_answered_it_writes_to_no_more(
    server: SharingServer, sharing: Sharing
) -> None:
    for _ in range(3):
        failed(sharing, InvalidRequestError("wrong", reason="INVALID_TENSOR"))
    assert not server.detached
    assert len(server.attached) <= 2


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (UnavailableError("gone"), True),
        (LossdError("unknown", reason="SEGMENT_NOT_FOUND"), True),
        (LossdError("shrunk", reason="SEGMENT_SHRUNK"), True),
        (InvalidRequestError("wrong", reason="INVALID_TENSOR"), False),
        (DeadlineExceededError("late"), False),
    ],
)
def test_what_was_shared_is_forgotten_when_it_is_lost(
    server: SharingServer, sharing: Sharing, error: LossdError, *, is_lost: bool
) -> None:
    with ClientLease(sharing) as lease:
        filled(lease)
        assert lease.is_lost(error) is is_lost
    asked = server.questions
    with ClientLease(sharing) as lease:
        filled(lease)
        assert lease.in_use is not is_lost
    assert server.questions == asked  # it rests


def test_a_call_that_was_given_up_loses_no_other_that_has_its_inputs_beside(
    server: SharingServer, sharing: Sharing
) -> None:
    with ClientLease(sharing) as under_way:
        used = filled(under_way).reply.start.segment
        failed(sharing, DeadlineExceededError("late"))
        kept = sharing.empty(np.zeros((1 << 20,), np.float32))  # which takes a new segment
        assert sharing.locate(kept)
        assert used not in server.detached
    assert sharing.block(1 << 24)
    assert used in server.detached


@pytest.mark.parametrize("leave", ["a call was given up", "another call lost the server"])
def test_what_this_client_has_left_tells_nothing_of_the_server_it_shares_with_now(
    leave: str, sharing: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call is made again without; arrays of others stay where they are."""
    monkeypatch.setattr("lossd.client.sharing.REST_SECONDS", 0.0)
    missing = LossdError("unknown", reason="SEGMENT_NOT_FOUND")
    with ClientLease(sharing) as lease, ClientLease(sharing) as with_new_server:
        filled(lease)
        if leave == "a call was given up":
            failed(sharing, DeadlineExceededError("late"))
        else:
            sharing.reset()
        kept = sharing.empty(LOGITS)
        assert lease.is_lost(missing)
        assert sharing.locate(kept)
        filled(with_new_server)
        assert with_new_server.is_lost(missing)
        assert sharing.locate(kept) is None


def test_a_server_that_is_gone_is_lost_whatever_was_left(sharing: Sharing) -> None:
    with ClientLease(sharing) as lease:
        filled(lease)
        failed(sharing, DeadlineExceededError("late"))
        kept = sharing.empty(LOGITS)
        assert lease.is_lost(UnavailableError("gone"))
        assert sharing.locate(kept) is None


def test_a_server_that_offers_nothing_is_asked_once() -> None:
    asked = []

    def ask(method: Any, request: Any, timeout: float) -> Any:
        asked.append((method, request, timeout))
        return v1.GetServerInfoResponse()

    sharing = Sharing(ask)
    for _ in range(3):
        with ClientLease(sharing) as lease:
            filled(lease)
            assert not lease.in_use
    assert len(asked) == 1


class Refusing(SharingServer):
    """Shares no memory yet, in one of the ways that a server may say so."""

    def __init__(self, directory: Path, how: str) -> None:
        super().__init__(directory)
        self.how = how

    def ask(self, method: Any, request: Any, timeout: float) -> Any:
        answer = super().ask(method, request, timeout)
        if method is GET_SERVER_INFO and self.how == "nothing is offered":
            return v1.GetServerInfoResponse()
        if method is GET_SERVER_INFO and self.how == "another directory":
            answer.shared_memory.beacon_content = b"of another"
        if method is ATTACH_SEGMENT and self.how == "not granted":
            raise PermissionDeniedError("not granted")
        return answer


REFUSING = pytest.mark.parametrize(
    "how", ["nothing is offered", "another directory", "not granted"]
)


@REFUSING
def test_a_server_that_shares_nothing_is_asked_again_much_later(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    server = Refusing(tmp_path, how)
    sharing = Sharing(server.ask)
    assert sharing.block(1 << 16) is None
    asked = server.questions
    now[0] += 25
    assert sharing.block(1 << 16) is None
    assert server.questions == asked
    server.how = ""
    now[0] += 10
    assert sharing.block(1 << 16) is not None


@REFUSING
def test_what_a_server_refused_another_one_is_asked_for_at_once(how: str, tmp_path: Path) -> None:
    server = Refusing(tmp_path, how)
    sharing = Sharing(server.ask)
    assert sharing.block(1 << 16) is None
    server.how = ""
    sharing.lose_server()
    assert sharing.block(1 << 16) is not None


def test_an_array_without_numbers_waits_for_nobody(server: SharingServer) -> None:
    for wanted in (np.empty(0, np.float32), np.empty(10, object)):
        sharing = Sharing(server.ask)
        assert sharing.beside_server(sharing.empty, wanted) is wanted
    assert server.questions == 0


@REFUSING
def test_an_array_waits_for_no_server_that_shares_nothing(how: str, tmp_path: Path) -> None:
    server = Refusing(tmp_path, how)
    sharing = Sharing(server.ask)
    assert sharing.beside_server(sharing.empty, LOGITS) is LOGITS
    asked = server.questions
    for _ in range(3):
        assert sharing.beside_server(sharing.empty, LOGITS) is LOGITS
    assert server.questions == asked


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("gone"),
        DeadlineExceededError("silent"),
        OverloadedError("busy", reason="TOO_MANY_CALLS", retry_delay=0.1),
    ],
)
def test_an_array_waits_for_a_server_that_went_unnoticed_or_is_busy(
    server: SharingServer, error: LossdError
) -> None:
    is_gone = False

    def ask(*arguments: Any) -> Any:
        if is_gone:
            raise error
        return server.ask(*arguments)

    sharing = Sharing(ask)
    kept = [sharing.beside_server(sharing.empty, LOGITS)]
    is_gone = True
    large = np.empty((10, *LOGITS.shape), np.float32)
    for _ in range(2):
        with pytest.raises(UnavailableError, match=r"^server must answer"):
            sharing.beside_server(sharing.empty, large)
    is_gone = False
    kept.append(sharing.beside_server(sharing.empty, large))
    assert all(sharing.locate(array) for array in kept)


def test_an_array_waits_for_no_room_that_others_have_for_good(tmp_path: Path) -> None:
    class Full(SharingServer):
        def ask(self, method: Any, request: Any, timeout: float) -> Any:
            if method is ATTACH_SEGMENT:
                raise OverloadedError("too many segments", reason="SEGMENTS_FULL")
            return super().ask(method, request, timeout)

    sharing = Sharing(Full(tmp_path).ask)
    assert sharing.beside_server(sharing.empty, LOGITS) is LOGITS


def test_the_directory_of_a_server_that_was_replaced_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one may be gone, or be there with nobody who looks into it."""
    monkeypatch.setattr("lossd.client.sharing.REST_SECONDS", 0.0)
    server = SharingServer(tmp_path)

    def ask(method: Any, request: Any, timeout: float) -> Any:
        if method is ATTACH_SEGMENT and not (server.directory / request.name).exists():
            raise LossdError("none of that name", reason="SEGMENT_NOT_FOUND")
        return server.ask(method, request, timeout)

    sharing = Sharing(ask)
    kept = [sharing.block(1 << 16)]
    for number in range(1, 3):
        new = tmp_path.with_name(f"{tmp_path.name}-{number}")
        new.mkdir()
        old, server = server.directory, SharingServer(new)
        if number == 2:
            shutil.rmtree(old)
        assert sharing.block(number << 21) is None
        kept.append(sharing.block(number << 21))
    assert all(kept)


@pytest.mark.parametrize("how", ["lost", "given up"])
def test_who_keeps_arrays_that_lie_in_shared_memory_no_more_is_told_once(
    how: str, sharing: Sharing, caplog: pytest.LogCaptureFixture
) -> None:
    def leave() -> None:
        if how == "lost":
            sharing.reset()
        else:
            failed(sharing, DeadlineExceededError("late"))

    kept = sharing.empty(LOGITS)
    assert sharing.locate(kept)
    leave()
    (told,) = caplog.records
    assert (told.levelname, told.args[:1]) == ("WARNING", (1,))  # type: ignore[index]
    assert sharing.locate(kept) is None
    leave()
    assert len(caplog.records) == 1


def test_who_keeps_only_results_is_told_nothing(
    sharing: Sharing, caplog: pytest.LogCaptureFixture
) -> None:
    sharing.empty(LOGITS)
    kept = sharing.block(1 << 16)
    sharing.reset()
    assert kept
    assert not caplog.records


def test_a_server_that_was_about_to_start_is_shared_with_soon(
    server: SharingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lossd.client.sharing.REST_SECONDS", 1000.0)
    faults = [UnavailableError("not yet")]

    def ask(*arguments: Any) -> Any:
        if faults:
            raise faults.pop()
        return server.ask(*arguments)

    sharing = Sharing(ask)
    assert sharing.block(1 << 20) is None
    for _ in range(1000):
        if sharing.block(1 << 20) is not None:
            return
        time.sleep(0.01)
    pytest.fail("the client rests as after a fault")


@pytest.mark.parametrize("answers", [0, 1, 2])
def test_memory_is_set_up_within_the_time_of_the_call(
    server: SharingServer, answers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers so many questions and no more holds no call up, nor the next one."""
    monkeypatch.setattr("lossd.client.sharing.ASK_SECONDS", 60.0)
    asked: list[float] = []

    def ask(method: Any, request: Any, timeout: float) -> Any:
        asked.append(timeout)
        if len(asked) <= answers:
            return server.ask(method, request, timeout)
        time.sleep(timeout)
        raise DeadlineExceededError("late")

    sharing = Sharing(ask)
    with ThreadPoolExecutor(2) as threads:
        began = time.monotonic()
        leases = [ClientLease(sharing, began + 0.5) for _ in range(2)]
        for each in [threads.submit(filled, lease) for lease in leases]:
            assert not each.result().HasField("reply")
        took = time.monotonic() - began
    assert took < 20
    assert max(asked, default=0.0) <= 0.5
    assert not any(lease.in_use for lease in leases)


def test_memory_that_is_not_set_up_leaves_time_for_a_message() -> None:
    def ask(_: Any, __: Any, timeout: float) -> Any:
        time.sleep(timeout)
        raise DeadlineExceededError("late")

    until = time.monotonic() + 2
    with ClientLease(Sharing(ask), until) as lease:
        filled(lease)
        assert not lease.in_use
    assert time.monotonic() < until


def test_a_timeout_of_the_callers_own_keeps_no_other_call_from_memory(
    server: SharingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing about the server, whichever question it ran out at."""
    monkeypatch.setattr("lossd.client.sharing.REST_SECONDS", 1000.0)
    monkeypatch.setattr("lossd.client.sharing.UNREACHED_SECONDS", 1000.0)
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    in_time = 0

    def ask(method: Any, request: Any, timeout: float) -> Any:
        nonlocal in_time
        in_time -= 1
        if in_time < 0 and timeout < 1:
            now[0] += timeout
            raise (DeadlineExceededError, UnavailableError)[in_time % 2]("late")
        return server.ask(method, request, timeout)

    sharing = Sharing(ask)
    for in_time in range(3):  # noqa: B007 - counted down where it is asked
        with ClientLease(sharing, now[0] + 0.02) as lease:
            filled(lease)
            assert not lease.in_use
    with ClientLease(sharing, now[0] + 60) as lease:
        filled(lease)
        assert lease.in_use


@pytest.mark.parametrize(
    "asked", [GET_SERVER_INFO, LIST_LOSSES, ATTACH_SEGMENT], ids=lambda method: method.path
)
def test_a_call_that_is_given_up_while_it_sets_memory_up_keeps_no_other_from_it(
    server: SharingServer, asked: Any
) -> None:
    """It says nothing about the server, which has not answered that it shares none."""
    given_up = [CancelledError("call must be waited for, got a cancelled one")]

    def ask(method: Any, request: Any, timeout: float) -> Any:
        if method is asked and given_up:
            raise given_up.pop()
        return server.ask(method, request, timeout)

    sharing = Sharing(ask)
    with ClientLease(sharing) as lease:
        filled(lease)
    assert not given_up
    assert sharing.locate(sharing.beside_server(sharing.empty, np.empty_like(LOGITS)))


def test_who_waits_for_memory_that_a_call_given_up_sets_up_has_it(server: SharingServer) -> None:
    asks, may_answer = threading.Event(), threading.Event()

    def ask(method: Any, request: Any, timeout: float) -> Any:
        if not asks.is_set():
            asks.set()
            assert may_answer.wait(20)
            raise CancelledError("call must be waited for, got a cancelled one")
        return server.ask(method, request, timeout)

    sharing = Sharing(ask)
    with ThreadPoolExecutor(2) as threads:
        submitted = threads.submit(sharing.block, 1 << 16)
        assert asks.wait(20)
        waiting = threads.submit(sharing.beside_server, sharing.empty, np.empty_like(LOGITS))
        may_answer.set()
        assert submitted.result(20) is None
        assert sharing.locate(waiting.result(20))


def test_a_call_without_time_asks_for_nothing(server: SharingServer, sharing: Sharing) -> None:
    lease = ClientLease(sharing, time.monotonic())
    filled(lease)
    assert not lease.in_use
    assert not server.questions


def test_a_call_that_has_ended_takes_no_more_memory(
    server: SharingServer, sharing: Sharing
) -> None:
    with ClientLease(sharing) as lease:
        pass
    assert not filled(lease).HasField("reply")
    assert server.questions == 0


def test_a_beacon_of_another_user_is_none(
    server: SharingServer, sharing: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose directory it is could read and change what is shared."""
    monkeypatch.setattr("lossd.client.beacon.os.geteuid", lambda: -1)
    with ClientLease(sharing) as lease:
        filled(lease)
        assert not lease.in_use
    assert not server.attached


@pytest.mark.parametrize("lack", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_who_has_too_few_files_for_a_while_is_told_once_and_shares_soon_after(
    lack: int, sharing: Sharing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, look = [1000.0], os.open
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def fail(*_: Any, **__: Any) -> int:
        raise OSError(lack, os.strerror(lack))

    for _ in range(2):
        monkeypatch.setattr(os, "open", fail)
        for _ in range(3):
            assert sharing.locate(sharing.empty(LOGITS)) is None
            now[0] += 1.5
        (told,) = caplog.records
        assert (told.levelname, os.strerror(lack) in told.getMessage()) == ("WARNING", True)
        monkeypatch.setattr(os, "open", look)
        assert sharing.locate(sharing.empty(LOGITS))
        sharing.reset()
        now[0] += 1.5
        caplog.clear()


def test_a_segment_that_the_server_refuses_leaves_no_file(
    server: SharingServer, tmp_path: Path
) -> None:
    def ask(method: Any, request: Any, timeout: float) -> Any:
        if isinstance(request, v1.AttachSegmentRequest):
            assert (tmp_path / request.name).exists()
            raise LossdError("full", reason="TOO_MANY_SEGMENTS")
        return server.ask(method, request, timeout)

    with ClientLease(Sharing(ask)) as lease:
        filled(lease)
        assert not lease.in_use
    assert [path.name for path in tmp_path.iterdir()] == ["beacon"]


def test_a_reply_is_read_from_its_own_region_only(sharing: Sharing) -> None:
    with ClientLease(sharing) as lease:
        request = filled(lease)
        start, size = request.reply.start, request.reply.size
        assert len(lease.view(start, size)) == size
        assert not lease.view(start, size).flags.writeable
        assert start.offset > 0
        for place in (
            v1.SharedMemory(segment=b"x", offset=start.offset),
            v1.SharedMemory(segment=start.segment, offset=start.offset - 1),
        ):
            with pytest.raises(ValueError, match="must lie in the reply's region"):
                lease.view(place, size)
