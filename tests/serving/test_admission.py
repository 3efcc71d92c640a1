"""Who waits for a turn waits no longer than its caller, and what is held counts until let go."""

import threading

import pytest

from lossd.errors import Abandoned
from lossd.serving.call import Call
from lossd.serving.rpc.admission import Admission, ComputeSlots
from tests.serving.test_boundary import Context


def test_a_wait_for_a_turn_ends_with_its_call() -> None:
    compute_slots, context, ended = ComputeSlots(1), Context(), threading.Event()
    waiting = Call(context, "")

    def wait() -> None:
        with pytest.raises(Abandoned), compute_slots.slot(waiting):
            pass
        ended.set()

    with compute_slots.slot(Call(Context(), "")):
        thread = threading.Thread(target=wait)
        thread.start()
        context.cancel()
        waiting.over()
        assert ended.wait(10)
        thread.join()
    with compute_slots.slot(Call(Context(), "")):  # nobody else has it
        pass


def test_a_place_is_given_back_when_caller_and_work_are_done() -> None:
    admission = Admission(calls=1, request_bytes=10)
    ticket = admission.enter()
    ticket.hold(7)
    ticket.leave()
    assert (admission.calls, admission.request_bytes) == (1, 7)
    ticket.finish()
    assert (admission.calls, admission.request_bytes) == (0, 0)
    assert admission.take_most() == 7
    assert admission.take_most() == 0
