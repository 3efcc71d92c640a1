"""Who waits for a turn waits no longer than its caller, and what is held counts until let go."""

import threading

import pytest

from lossd.errors import Abandoned, Overloaded, TooLarge
from lossd.serving.call import Call
from lossd.serving.rpc.admission import Admission, ComputeSlots
from tests.serving.test_boundary import Context
from tests.waiting import until


@pytest.mark.parametrize(("has_ended", "remaining"), [(False, None), (True, None), (False, 1e300)])
def test_a_wait_for_a_turn_ends_with_its_call(*, has_ended: bool, remaining: float | None) -> None:
    compute_slots, ended = ComputeSlots(1), threading.Event()
    context = Context(active=not has_ended, remaining=remaining)
    waiting = Call(context, "")

    def wait() -> None:
        with pytest.raises(Abandoned), compute_slots.slot(waiting):
            pass
        ended.set()

    with compute_slots.slot(Call(Context(), "")):
        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        if not has_ended:
            context.cancel()
            waiting.over()
        assert ended.wait(10)
        thread.join()
    with compute_slots.slot(Call(Context(), "")):  # nobody else has it
        pass


def test_turns_are_given_in_the_order_of_asking() -> None:
    compute_slots, order = ComputeSlots(1), list[int]()

    def wait(number: int) -> None:
        with compute_slots.slot(Call(Context(), "")):
            order.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(3)]
    with compute_slots.slot(Call(Context(), "")):
        for waiting, thread in enumerate(threads, start=1):
            thread.start()
            until(lambda: len(compute_slots._waiting) == waiting)  # noqa: B023 - at once
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2]


def test_what_a_call_wants_in_pieces_is_too_large_where_all_of_it_never_fits() -> None:
    """Whoever is told that others have the room comes again, for ever."""
    admission = Admission(calls=2, request_bytes=10)
    ticket, other = admission.enter(), admission.enter()
    ticket.hold(4)
    with ticket.collecting() as collect:
        collect(3)
        for take in (ticket.hold, ticket.check, collect):
            with pytest.raises(TooLarge, match="bytes in flight must be at most 10, got 11"):
                take(4)
    other.hold(6)
    with pytest.raises(Overloaded):  # what was collected is done with
        ticket.hold(6)


def test_a_place_is_given_back_when_caller_and_work_are_done() -> None:
    admission = Admission(calls=1, request_bytes=10)
    ticket = admission.enter()
    ticket.hold(5)
    ticket.check(2)
    ticket.hold(1)
    ticket.leave()
    assert (admission.calls, admission.request_bytes) == (1, 6)
    ticket.finish()
    assert (admission.calls, admission.request_bytes) == (0, 0)
    assert admission.take_most() == 7
    assert admission.take_most() == 0
