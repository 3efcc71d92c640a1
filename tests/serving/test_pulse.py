"""A server that hears nothing from itself is given up, unless it still looks at calls."""

import itertools
import threading

from lossd.serving.process.pulse import Pulse
from tests.deploy.fleet import free_port

QUICK = 0.02


def test_a_server_that_looks_at_no_call_is_given_up() -> None:
    is_stopped = threading.Event()
    pulse = Pulse(is_stopped.set, seconds=QUICK)
    pulse.start(f"127.0.0.1:{free_port()}")
    assert is_stopped.wait(60)
    assert not pulse.is_felt
    pulse.close()


def test_a_server_that_looks_at_others_is_busy_and_not_deaf() -> None:
    numbers, is_stopped, enough = itertools.count(), threading.Event(), threading.Event()

    def looked_at() -> int:
        number = next(numbers)
        if number > 30:
            enough.set()
        return number

    pulse = Pulse(is_stopped.set, seconds=QUICK)
    pulse.start(f"127.0.0.1:{free_port()}", looked_at)
    assert enough.wait(60)
    assert pulse.is_felt
    assert not is_stopped.is_set()
    pulse.close()
