"""Checkpoints, by which long work can be stopped: it calls one on its way, which may raise."""

from collections.abc import Callable

Checkpoint = Callable[[], None]


def never_stop() -> None:
    """Stands for a checkpoint where nobody may want to stop."""
