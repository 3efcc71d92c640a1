"""Runs jobs: a job in, a result out.  The engine knows losses and backends, but not the wire."""

from lossd.engine._engine import (
    Allocate,
    ComputedTerm,
    Engine,
    ExampleStatuses,
    Hold,
    Place,
    Result,
    hold_nothing,
)

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
