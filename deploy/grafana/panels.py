"""Panels and the queries in them, as the rows describe them."""

from dataclasses import dataclass

OF = 'namespace=~"$namespace", job=~"$job", instance=~"$instance"'
RATE = "$__rate_interval"
RANGE = "$__range"
LOSS = 'loss=~"$loss"'
ERRORS = 'grpc_code=~"INTERNAL|UNKNOWN|UNAVAILABLE|DATA_LOSS|DEADLINE_EXCEEDED"'
OURS = 'grpc_service=~"lossd.*"'
CALLS = "grpc_server_handled_total"
_QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Query:
    """One query; ``legend`` names its series by their labels."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; ``says`` is behind its (i)."""

    title: str
    says: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    red_from: float | None = None
    red_below: float | None = None


def each(metric: str, *labels: str) -> str:
    """Returns the selector of a metric, on what the dashboard's variables choose."""
    return f"{metric}{{{', '.join([OF, *labels])}}}"


def rate(metric: str, *labels: str) -> str:
    """Returns the rate of a counter."""
    return f"rate({each(metric, *labels)}[{RATE}])"


def total(metric: str, *labels: str, by: str = "") -> str:
    """Returns the sum of a counter's rates, by labels."""
    return f"sum{f' by ({by})' if by else ''} ({rate(metric, *labels)})"


def share(part: str, whole: str) -> str:
    """Returns a quotient that is 0 where nothing happens at all."""
    return or_nothing(f"{part} / ({whole} > 0)")


def or_nothing(expression: str) -> str:
    """Returns an expression that is 0 where it has no series, rather than one series more."""
    return f"{expression} or on () vector(0)"


def quantiles(metric: str, *labels: str) -> tuple[Query, ...]:
    """Returns the median and two high quantiles of a histogram."""
    buckets = total(f"{metric}_bucket", *labels, by="le")
    return tuple(Query(f"histogram_quantile({q}, {buckets})", f"p{q * 100:g}") for q in _QUANTILES)
