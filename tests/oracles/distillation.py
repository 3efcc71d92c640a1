"""Divergences of distributions of tokens, written from the papers."""

from collections.abc import Mapping, Sequence
from typing import Any

import mpmath

from tests.oracles.policies import aggregated, counted, mean

exp, log = mpmath.exp, mpmath.log


def _shares(given: Mapping[str, Any], name: str, row: int, t: int) -> list[Any]:
    """The probabilities of a token, the tail at the end where there is one."""
    numbers = given[name][row][t]
    if given["support"].name == "WHOLE":
        found = [exp(x / mpmath.mpf(given.get("temperature", 1))) for x in numbers]
        return [x / sum(found) for x in found]
    found = [exp(x) for x in numbers]
    if given["support"].name == "TRUNCATED":
        return found
    return [*found, max(1 - sum(found), mpmath.mpf(2) ** -40)]


def _kl(p: Sequence[Any], q: Sequence[Any]) -> Any:
    return sum((a * log(a / b) for a, b in zip(p, q, strict=True) if a), mpmath.mpf(0))


def _token(given: Mapping[str, Any], row: int, t: int) -> Any:
    s, q = (_shares(given, name, row, t) for name in ("predictions", "targets"))
    kind, beta = given["divergence"].name, given.get("beta")
    ends = {"FORWARD_KL": _kl(q, s), "REVERSE_KL": _kl(s, q)}
    if kind in ends:
        return ends[kind]
    if kind.startswith("INTERPOLATED") and beta in (0, 1):
        return ends["REVERSE_KL" if beta else "FORWARD_KL"]
    beta = mpmath.mpf(beta)
    m = [beta * b + (1 - beta) * a for a, b in zip(s, q, strict=True)]
    weight = 1 - beta if kind.startswith("INTERPOLATED") else beta
    return weight * _kl(q, m) + (1 - weight) * _kl(s, m)


def distillation(held: Any = None, **given: Any) -> list[Any]:
    """The sequences' values, aggregated."""
    del held
    return aggregated(given, "predictions", _token)


def _mass(name: str) -> Any:
    def output(**given: Any) -> list[float]:
        count = len(given[name][0][0]) if len(given[name]) else 0
        return [
            float(mean([sum(_shares(given, name, row, t)[:count]) for t in places]))
            for row in range(len(given[name]))
            for places in [counted(given, row, first=name)]
        ]

    return output


DISTILLATION_OUTPUTS = {
    "student_mass": _mass("predictions"), "teacher_mass": _mass("targets"),
}  # fmt: skip
