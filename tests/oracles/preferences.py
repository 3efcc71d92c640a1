"""Losses of preferences, rewards and values, written from the papers: each takes all examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import mpmath

from tests.oracles.policies import aggregated, counted, mean

exp, log = mpmath.exp, mpmath.log


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + exp(-x))


def _scores(given: Mapping[str, Any], side: str, *, average: bool) -> list[Any]:
    """The log-probability of each answer, less that of the reference if there is one."""
    now = given[f"{side}log_probabilities"]
    reference = given.get(f"{side}reference_log_probabilities")
    found = []
    for row in range(len(now)):
        if not isinstance(now[row], tuple):
            score = now[row] - (reference[row] if reference is not None else 0)
            found.append(score / max(given[f"{side}lengths"][row], 1) if average else score)
            continue
        places = counted(given, row, side)
        apart = [now[row][t] - (reference[row][t] if reference is not None else 0) for t in places]
        found.append(mean(apart) if average else sum(apart, mpmath.mpf(0)))
    return found


def _pair(  # noqa: PLR0911 - a line an objective
    name: str, c: Any, r: Any, n: Mapping[str, Any]
) -> Any:
    beta, e = mpmath.mpf(n["beta"]), mpmath.mpf(n.get("label_smoothing", 0))
    h = beta * (c - r)
    smoothed = -(1 - e) * log(_sigmoid(h)) - e * log(_sigmoid(-h))
    if name == "SIGMOID":
        return smoothed
    if name == "IPO":
        return (c - r - 1 / (2 * beta)) ** 2
    if name == "HINGE":
        return max(0, 1 - h)
    if name == "ROBUST":
        return (-(1 - e) * log(_sigmoid(h)) + e * log(_sigmoid(-h))) / (1 - 2 * e)
    if name == "APO_ZERO":
        return 1 - _sigmoid(beta * c) + _sigmoid(beta * r)
    if name == "APO_DOWN":
        return _sigmoid(beta * c) + 1 - _sigmoid(h)
    if name == "EXO":
        q = _sigmoid(h)
        return q * log(q / (1 - e)) + (1 - q) * log((1 - q) / e)
    if name == "NCA":
        noise = log(_sigmoid(-beta * c)) + log(_sigmoid(-beta * r))
        return -log(_sigmoid(beta * c)) - noise / 2
    if name == "DISCOPOP":
        m = _sigmoid(h / n["temperature"])
        return -(1 - m) * log(_sigmoid(h)) + m * exp(-h)
    if name == "SIMPO":
        return -log(_sigmoid(h - n["margin"]))
    if name == "CPO":
        return smoothed - n["likelihood_weight"] * c
    odds = [exp(x) / (1 - exp(x)) for x in (c, r)]
    return -c - beta * log(_sigmoid(log(odds[0] / odds[1])))


def preference(held: Any = None, **given: Any) -> list[Any]:
    """The value of each pair."""
    del held
    name = given["objective"].name
    average = given.get("average", name in ("SIMPO", "ORPO"))
    sides = [_scores(given, side, average=average) for side in ("chosen_", "rejected_")]
    empty = [name == "ORPO" and _is_empty(given, row) for row in range(len(sides[0]))]
    pairs = zip(*sides, empty, strict=True)
    return [mpmath.mpf(0) if gone else _pair(name, c, r, given) for c, r, gone in pairs]


def _is_empty(given: Mapping[str, Any], row: int) -> bool:
    """Whether an answer has no tokens, whose probability is 1 and whose odds are infinite."""
    sides = ("chosen_", "rejected_")
    if not isinstance(given["chosen_log_probabilities"][row], tuple):
        return any(given[f"{side}lengths"][row] == 0 for side in sides)
    return not all(counted(given, row, side) for side in sides)


def _rewards(given: Mapping[str, Any]) -> Sequence[tuple[Any, Any]]:
    name = given["objective"].name
    average = given.get("average", name in ("SIMPO", "ORPO"))
    sides = [_scores(given, side, average=average) for side in ("chosen_", "rejected_")]
    return [(given["beta"] * c, given["beta"] * r) for c, r in zip(*sides, strict=True)]


def _of_each(found: Any) -> list[float]:
    return [float(number) for number in found]


PREFERENCE_OUTPUTS = {
    "chosen_reward": lambda **given: _of_each(c for c, _ in _rewards(given)),
    "rejected_reward": lambda **given: _of_each(r for _, r in _rewards(given)),
    "reward_margin": lambda **given: _of_each(c - r for c, r in _rewards(given)),
    "accuracy": lambda **given: _of_each(int(c > r) for c, r in _rewards(given)),
}


def _baseline(given: Mapping[str, Any]) -> Any:
    if given.get("baseline") is not None:
        return mpmath.mpf(given["baseline"])
    return max(mpmath.mpf(0), mean(_scores(given, "mismatched_", average=False)))


def kahneman_tversky(held: Mapping[str, Any] | None = None, **given: Any) -> list[Any]:
    """The value of each answer."""
    z, beta = _baseline(held or given), mpmath.mpf(given.get("beta", 0.1))
    good, bad = (given.get(f"{kind}_weight", 1) for kind in ("desirable", "undesirable"))
    return [
        good * (1 - _sigmoid(beta * (s - z))) if is_good else bad * (1 - _sigmoid(beta * (z - s)))
        for s, is_good in zip(_scores(given, "", average=False), given["desirable"], strict=True)
    ]


def _each_reward(given: Mapping[str, Any]) -> list[Any]:
    beta = mpmath.mpf(given.get("beta", 0.1))
    return [beta * s for s in _scores(given, "", average=False)]


KAHNEMAN_TVERSKY_OUTPUTS = {
    "reward": lambda **given: _of_each(_each_reward(given)),
    "baseline": lambda **given: [float(_baseline(given))] * len(given["desirable"]),
}


def _shift(given: Mapping[str, Any]) -> Any:
    if given.get("shift") is not None:
        return mpmath.mpf(given["shift"])
    pairs = list(zip(_each_reward(given), given["desirable"], strict=True))
    kinds = [[reward for reward, d in pairs if bool(d) is kind] for kind in (True, False)]
    return mean([mean(kind) for kind in kinds if kind])


def binary_classifier_optimization(
    held: Mapping[str, Any] | None = None, **given: Any
) -> list[Any]:
    """The value of each answer."""
    d = _shift(held or given)
    return [
        -log(_sigmoid(reward - d if is_good else d - reward))
        for reward, is_good in zip(_each_reward(given), given["desirable"], strict=True)
    ]


BINARY_CLASSIFIER_OPTIMIZATION_OUTPUTS = {
    "reward": lambda **given: _of_each(_each_reward(given)),
    "shift": lambda **given: [float(_shift(given))] * len(given["desirable"]),
}


def bradley_terry(held: Any = None, **given: Any) -> list[Any]:
    """The value of each pair."""
    del held
    chosen, rejected = given["chosen_rewards"], given["rejected_rewards"]
    margins = given.get("margins", [0] * len(chosen))
    centering = mpmath.mpf(given.get("centering", 0))
    return [
        -log(_sigmoid(c - r - m)) + centering * (c + r) ** 2
        for c, r, m in zip(chosen, rejected, margins, strict=True)
    ]


def _each_pair(given: Mapping[str, Any]) -> Any:
    return zip(given["chosen_rewards"], given["rejected_rewards"], strict=True)


BRADLEY_TERRY_OUTPUTS = {
    "reward_margin": lambda **given: _of_each(c - r for c, r in _each_pair(given)),
    "accuracy": lambda **given: _of_each(int(c > r) for c, r in _each_pair(given)),
}


def clipped_value(held: Any = None, **given: Any) -> list[Any]:
    """The sequences' values, aggregated."""
    del held
    return aggregated(given, "values", _errors)


def _errors(given: Mapping[str, Any], row: int, t: int) -> Any:
    v, old, y = (given[name][row][t] for name in ("values", "old_values", "returns"))
    near = min(max(v, old - given["clip_range"]), old + given["clip_range"])
    return max((v - y) ** 2, (near - y) ** 2) / 2


def _held(**given: Any) -> list[float]:
    found = []
    for row in range(len(given["values"])):
        flags = []
        for t in counted(given, row, first="values"):
            v, old, y = (given[name][row][t] for name in ("values", "old_values", "returns"))
            near = min(max(v, old - given["clip_range"]), old + given["clip_range"])
            flags.append(mpmath.mpf(int((near - y) ** 2 > (v - y) ** 2)))
        found.append(float(mean(flags)))
    return found


CLIPPED_VALUE_OUTPUTS = {"clip_fraction": _held}
