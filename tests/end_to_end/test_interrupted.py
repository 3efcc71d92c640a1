"""A signal that raises amid a call, as that of Ctrl-C does, ends it, and later ones are as ever."""

import subprocess
import sys

import pytest

from tests.end_to_end.conftest import Process

# In a process of its own, as signals come to the main thread, and a lock that is kept ends nothing.
INTERRUPTED = """
import random, signal, sys, threading, time
import numpy as np
from lossd.client import LossClient
from lossd.v1 import CrossEntropy

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
random.seed(0)
logits = np.random.default_rng(0).standard_normal((600, 1000)).astype(np.float32)
labels = np.arange(600)

def compute():
    return client.compute(CrossEntropy(), logits, labels).loss

def evaluate():
    with client.evaluation("accuracy", timeout=5) as evaluation:  # one cut off amid its end ends so
        evaluation.update(predictions=logits[:, :600], targets=labels)
        return evaluation.result().value

with LossClient(sys.argv[1]) as client:
    call = {"large calls": compute, "evaluations": evaluate}[sys.argv[2]]
    expected = call()
    begun = time.monotonic()
    call()
    usual = time.monotonic() - begun
    interrupts = 0
    for _ in range(150):
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-4 + random.random() * usual)
            call()
            signal.setitimer(signal.ITIMER_REAL, 0)  # until then it may still come
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts
    assert call() == expected
    until = time.monotonic() + 10
    while threading.active_count() > 2 and time.monotonic() < until:  # one of them gRPC's own
        time.sleep(0.05)
    assert threading.active_count() <= 2, threading.enumerate()
"""


@pytest.mark.parametrize("what", ["large calls", "evaluations"])
def test_calls_that_are_interrupted_leave_the_client_whole(server: Process, what: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, server.address, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
