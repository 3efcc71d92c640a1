"""A signal that raises amid a call, as that of Ctrl-C does, ends it, and later ones are as ever."""

import subprocess
import sys

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
with LossClient(sys.argv[1]) as client:
    expected = client.compute(CrossEntropy(), logits, np.arange(600)).loss
    interrupts = 0
    for _ in range(150):
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-4 + random.random() * 0.008)
            client.compute(CrossEntropy(), logits, np.arange(600))
        except KeyboardInterrupt:
            interrupts += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert interrupts
    assert client.compute(CrossEntropy(), logits, np.arange(600)).loss == expected
    until = time.monotonic() + 10
    while threading.active_count() > 2 and time.monotonic() < until:  # one of them gRPC's own
        time.sleep(0.05)
    assert threading.active_count() <= 2, threading.enumerate()
"""


def test_large_calls_that_are_interrupted_leave_the_client_whole(server: Process) -> None:
    command = [sys.executable, "-c", INTERRUPTED, server.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
