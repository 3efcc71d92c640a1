"""Runs jobs: a job in, a result out.  The engine knows losses and backends, but not the wire."""

from lossd.engine._engine import Engine
from lossd.engine._memory import Hold, hold_nothing
from lossd.engine._reply import Allocate, Place
from lossd.engine._result import ComputedTerm, ExampleStatuses, Result

__all__ = [
    "Allocate",
    "ComputedTerm",
    "Engine",
    "ExampleStatuses",
    "Hold",
    "Place",
    "Result",
    "hold_nothing",
]
