"""Waits for what other threads and processes bring about."""

import time
from collections.abc import Callable


def until(holds: Callable[[], object], what: str = "", seconds: float = 60) -> None:
    """Waits until something holds; the limit is for what never comes, not for a busy machine."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what or "it must come to hold"
        time.sleep(0.02)
