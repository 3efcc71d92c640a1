"""Losses of token log-probabilities, written from the papers: each takes all sequences.

They return the value of each sequence or pair.  ``held`` are the inputs at which everything is
evaluated that the papers hold constant under the derivative; it is left out for values.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import mpmath

exp, log = mpmath.exp, mpmath.log


def counted(
    given: Mapping[str, Any], row: int, side: str = "", first: str = "log_probabilities"
) -> list[int]:
    """The places of the tokens of a padded row that count."""
    cells = given[f"{side}{first}"][row]
    length = given.get(f"{side}lengths")
    mask = given.get(f"{side}token_mask")
    places = range(len(cells) if length is None else length[row])
    return [t for t in places if mask is None or mask[row][t]]


def mean(numbers: Sequence[Any]) -> Any:
    return sum(numbers, mpmath.mpf(0)) / max(len(numbers), 1)


# ------------------------------------------------------------------ policy gradients


def _ratios(given: Mapping[str, Any], row: int, places: Sequence[int], kind: str) -> list[Any]:
    if kind == "NONE":
        return [mpmath.mpf(1)] * len(places)
    now, before = given["log_probabilities"][row], given["sampling_log_probabilities"][row]
    if kind == "TOKEN":
        return [exp(now[t] - before[t]) for t in places]
    of_sequence = exp(mean([now[t] - before[t] for t in places]))
    return [of_sequence] * len(places)


def _binary_kl(p: Any, q: Any) -> Any:
    return p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))


def _token(  # noqa: PLR0911, PLR0917 - a line an objective
    name: str, r: Any, r_held: Any, now: Any, then: Any, a: Any, numbers: Any
) -> Any:
    """The loss of one token; ``then`` is where it was sampled from."""
    if a == 0 and name != "DRO":
        return mpmath.mpf(0)
    low, high = numbers.get("clip_low"), numbers.get("clip_high")
    if name == "REINFORCE":
        return -a * now
    if name == "IMPORTANCE_SAMPLING":
        return -r * a
    if name in ("PPO_CLIP", "DUAL_CLIP"):
        least = min(r * a, min(max(r, low), high) * a)
        if name == "DUAL_CLIP" and a < 0:
            least = max(least, numbers["dual_clip"] * a)
        return -least
    if name == "CISPO":
        return -min(max(r_held, low), high) * a * now
    if name == "SAPO":
        heat = numbers["positive_temperature" if a > 0 else "negative_temperature"]
        return -4 / mpmath.mpf(heat) / (1 + exp(-heat * (r - 1))) * a
    if name == "DRO":
        return -a * now + mpmath.mpf(numbers["quadratic_coefficient"]) / 2 * (now - then) ** 2
    p, q = exp(now), exp(then)
    far = abs(p - q) if name == "DPPO_TV" else _binary_kl(q, p)
    ahead = p > q if a > 0 else p < q
    return mpmath.mpf(0) if ahead and far > numbers["divergence_threshold"] else -r * a


def _divergence(kind: str, now: Any, reference: Any) -> Any:
    d = now - reference
    return {"K1": d, "K2": d**2 / 2, "K3": exp(-d) - 1 + d}[kind]


def _corrections(given: Mapping[str, Any], row: int, places: Sequence[int], numbers: Any) -> Any:
    kind = numbers["rollout_correction"].name if "rollout_correction" in numbers else "NONE"
    if kind == "NONE":
        return [mpmath.mpf(1)] * len(places)
    ours, theirs = given["sampling_log_probabilities"][row], given["rollout_log_probabilities"][row]
    weights = [exp(ours[t] - theirs[t]) for t in places]
    if kind.startswith("SEQUENCE"):
        weights = [mpmath.fprod(weights)] * len(places)
    high = numbers["rollout_high"]
    if kind.endswith("TRUNCATE"):
        return [min(w, high) for w in weights]
    return [w if numbers["rollout_low"] <= w <= high else mpmath.mpf(0) for w in weights]


def policy_gradient(held: Mapping[str, Any] | None = None, **given: Any) -> list[Any]:
    """The sequences' values, aggregated, of what ``given`` holds beside the outputs asked for."""
    held = held or given
    rows = range(len(given["log_probabilities"]))
    sums, counts = [], []
    for row in rows:
        places = counted(given, row)
        total = mpmath.mpf(0)
        kind = given["ratio"].name
        ratios = _ratios(given, row, places, kind)
        ratios_held = _ratios(held, row, places, kind)
        if kind == "SEQUENCE_TOKEN":  # Zheng et al., 2025, eq. 14: pi / sg(pi) beside it
            by_token = _ratios({**given, "sampling_log_probabilities": held["log_probabilities"]},
                               row, places, "TOKEN")  # fmt: skip
            ratios = [a * b for a, b in zip(ratios_held, by_token, strict=True)]
        weights = _corrections(given, row, places, given)
        for t, r, r_held, w in zip(places, ratios, ratios_held, weights, strict=True):
            a = given["advantages"][row]
            a = a[t] if isinstance(a, tuple) else a
            now = given["log_probabilities"][row][t]
            then = given.get("sampling_log_probabilities", given["log_probabilities"])[row][t]
            cost = w * _token(given["objective"].name, r, r_held, now, then, a, given)
            if "reference_log_probabilities" in given:
                kl = _divergence(
                    given["kl_estimator"].name, now, given["reference_log_probabilities"][row][t]
                )
                cost += mpmath.mpf(given.get("kl_coefficient", 0)) * kl
            total += cost * given["token_weights"][row][t] if "token_weights" in given else cost
        sums.append(total)
        counts.append(len(places))
    return [total / share for total, share in zip(sums, _shares(given, counts), strict=True)]


def aggregated(given: Mapping[str, Any], first: str, cost: Any) -> list[Any]:
    """The values of sequences whose tokens cost something each by itself."""
    places = [counted(given, row, first=first) for row in range(len(given[first]))]
    sums = [
        sum((cost(given, row, t) for t in found), mpmath.mpf(0)) for row, found in enumerate(places)
    ]
    shares = _shares(given, [len(found) for found in places])
    return [total / share for total, share in zip(sums, shares, strict=True)]


def _shares(given: Mapping[str, Any], counts: Sequence[int]) -> list[Any]:
    """Returns the divisor of the sum over each sequence."""
    kind = given["aggregation"].name
    if kind == "SEQUENCE_MEAN":
        return [mpmath.mpf(max(n, 1)) for n in counts]
    if kind == "CONSTANT_LENGTH":
        return [mpmath.mpf(given["sequence_length"])] * len(counts)
    if kind == "GROUP_MEAN":
        groups = given["groups"]
        return [
            mpmath.mpf(max(1, sum(n for n, g in zip(counts, groups, strict=True) if g == own)))
            for own in groups
        ]
    return [mpmath.mpf(1)] * len(counts)


def denominators(given: Mapping[str, Any]) -> list[float]:
    """Returns what each sequence adds to the divisor of a mean."""
    known = ("values", "predictions", "log_probabilities")
    first = next(name for name in known if name in given)
    rows = range(len(given[first]))
    kind = given["aggregation"].name
    if kind == "TOKEN_MEAN":
        return [float(len(counted(given, row, first=first))) for row in rows]
    if kind == "GROUP_MEAN":
        groups = list(given["groups"])
        return [1 / groups.count(own) for own in groups]
    return [1.0 for _ in rows]


def _by_sequence(of_places: Any) -> Any:
    def output(**given: Any) -> list[float]:
        rows = range(len(given["log_probabilities"]))
        return [float(of_places(given, row, counted(given, row))) for row in rows]

    return output


def _is_clipped(given: Mapping[str, Any], row: int, places: Sequence[int]) -> Any:
    name, found = given["objective"].name, []
    for t, r in zip(places, _ratios(given, row, places, given["ratio"].name), strict=True):
        a = given["advantages"][row]
        a = a[t] if isinstance(a, tuple) else a
        if name in ("PPO_CLIP", "DUAL_CLIP"):
            far = a > 0 and r > given["clip_high"]
            far = far or (a < 0 and r < given["clip_low"])
            far = far or (name == "DUAL_CLIP" and a < 0 and r > given["dual_clip"])
        elif name == "CISPO":
            far = not given["clip_low"] <= r <= given["clip_high"]
        elif name.startswith("DPPO"):
            now = given["log_probabilities"][row][t]
            then = given["sampling_log_probabilities"][row][t]
            far = a != 0 and _token(name, r, r, now, then, a, given) == 0
        else:
            far = False
        found.append(mpmath.mpf(int(far)))
    return mean(found)


def _mean_kl(given: Mapping[str, Any], row: int, places: Sequence[int]) -> Any:
    if "reference_log_probabilities" not in given:
        return 0
    now, reference = given["log_probabilities"][row], given["reference_log_probabilities"][row]
    return mean([_divergence(given["kl_estimator"].name, now[t], reference[t]) for t in places])


def _gap(given: Mapping[str, Any], row: int, places: Sequence[int]) -> Any:
    if "rollout_log_probabilities" not in given or "sampling_log_probabilities" not in given:
        return 0
    ours, theirs = given["sampling_log_probabilities"][row], given["rollout_log_probabilities"][row]
    return mean([abs(ours[t] - theirs[t]) for t in places])


def _entropy(given: Mapping[str, Any], row: int, places: Sequence[int]) -> Any:
    return mean([given["entropies"][row][t] for t in places]) if "entropies" in given else 0


def _went(given: Mapping[str, Any], row: int, places: Sequence[int]) -> Any:
    if "sampling_log_probabilities" not in given:
        return 0
    then, now = given["sampling_log_probabilities"][row], given["log_probabilities"][row]
    return mean([then[t] - now[t] for t in places])


def _percentile(percent: int) -> Any:
    def of_places(given: Mapping[str, Any], row: int, places: Sequence[int]) -> Any:
        ratios = sorted(_ratios(given, row, places, given["ratio"].name))
        enough = (r for n, r in enumerate(ratios, 1) if 100 * n >= percent * len(ratios))
        return next(enough, 0)

    return _by_sequence(of_places)


POLICY_GRADIENT_OUTPUTS = {
    "clip_fraction": _by_sequence(_is_clipped),
    "ratio": _by_sequence(
        lambda given, row, places: mean(_ratios(given, row, places, given["ratio"].name))
    ),
    "largest_ratio": _by_sequence(
        lambda given, row, places: max(_ratios(given, row, places, given["ratio"].name), default=0)
    ),
    "kl": _by_sequence(_mean_kl),
    "rollout_gap": _by_sequence(_gap),
    "token_count": _by_sequence(lambda _given, _row, places: len(places)),
    "ratio_p05": _percentile(5),
    "ratio_p50": _percentile(50),
    "ratio_p95": _percentile(95),
    "sampling_kl": _by_sequence(_went),
    "entropy": _by_sequence(_entropy),
}
