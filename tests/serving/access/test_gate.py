"""A refusal is written in a line, of a caller who may say what it likes."""

import pytest

from lossd.errors import Unauthenticated
from lossd.serving.access.gate import Gate
from lossd.serving.access.policy import Policy


def test_no_caller_makes_a_line_long(caplog: pytest.LogCaptureFixture) -> None:
    facts = ("method", "peer", "caller")
    long = dict.fromkeys(facts, "x" * 10_000)
    Gate(Policy, is_secure=False).note(Unauthenticated("x" * 10_000), **long)
    (record,) = caplog.records
    assert [len(record.__dict__[name]) for name in (*facts, "because")] == [200] * 4
