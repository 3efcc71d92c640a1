"""Results and clients show themselves in a line, and in notebooks as a table, however large."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from lossd.client import LossClient, LossResult, MetricResult, ServerTiming, TermResult
from lossd.client.histogram import histogram


def metric(**given: Any) -> MetricResult:
    fields: dict[str, Any] = {
        "metric": "roc_auc", "value": 0.75, "values": None, "status": None, "reason": "",
        "outputs": {}, "example_count": 3, "ignored_count": 0, "signature": "",
    }  # fmt: skip
    return MetricResult(**{**fields, **given})


def result(**given: Any) -> LossResult:
    fields: dict[str, Any] = {
        "loss": 0.5, "per_example": None, "gradients": {}, "loss_sum": 1.5, "weight_sum": 3.0,
        "example_count": 3, "ignored_count": 0, "nonfinite_count": 0, "statuses": {},
        "status": None, "outputs": {}, "metrics": [], "terms": [], "backend": "numpy",
        "transport": "grpc", "server_timing": ServerTiming(0, 0, 0, 0, 0),
    }  # fmt: skip
    return LossResult(**{**fields, **given})


def test_a_result_says_what_its_arrays_are_and_leaves_out_what_is_empty() -> None:
    losses = np.zeros(10_000_000, np.float32)
    shown = repr(result(per_example=losses, gradients={"predictions": np.zeros((3, 2))}))
    assert shown == (
        "LossResult(loss=0.5, per_example=float32[10000000], "
        "gradients={'predictions': float64[3, 2]}, example_count=3, backend='numpy', "
        "transport='grpc')"
    )
    assert repr(metric(value=None)).startswith("MetricResult(metric='roc_auc', value=None")
    many = result(statuses=dict.fromkeys(range(1000), "NONFINITE"), metrics=[metric()] * 50)
    assert "... 994 more}" in repr(many)
    assert len(repr(many)) < 1000


def test_a_term_shows_its_outputs_by_type_and_shape() -> None:
    term = TermResult(
        loss=0.5, loss_sum=1.5, weight_sum=3, example_count=3, ignored_count=0, nonfinite_count=0,
        status=None, gradient_norm=2, outputs={"entropy": np.zeros(10_000, np.float32)},
    )  # fmt: skip
    told = "gradient_norm=2, outputs={'entropy': float32[10000]})"
    assert f"[TermResult(loss=0.5, example_count=3, {told}]" in repr(result(terms=[term]))
    assert "float32[10000]" in result(terms=[term])._repr_html_()


def test_a_notebook_shows_a_table_and_a_histogram() -> None:
    losses = np.append(np.random.default_rng(0).exponential(size=1000), [np.nan, np.inf])
    shown = result(per_example=losses, metrics=[metric(reason="<b>")])._repr_html_()
    (svg,) = re.findall(r"<svg.*</svg>", shown)
    bars = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}rect")  # noqa: S314 - ours
    counts = [int(bar[0].text.rsplit(" ", 1)[1]) for bar in bars if bar[0].text]
    assert sum(counts) == 1000
    assert counts == np.histogram(losses[:1000], len(counts))[0].tolist()
    assert "1000 losses, 2 not finite" in svg
    assert "roc_auc" in shown
    assert "<b>" not in shown
    assert "<svg" not in result()._repr_html_()


@pytest.mark.parametrize(
    "numbers",
    [[1.0], [2.0, 2.0], [1.0, np.nextafter(1.0, 2.0)], [-1.7e308, 1.7e308], [0.0, 5e-324]],
)
def test_no_range_of_losses_breaks_a_histogram(numbers: Any) -> None:
    svg = histogram(np.array(numbers))
    assert ET.fromstring(svg) is not None  # noqa: S314 - ours
    assert histogram(np.array([np.nan])) == ""
    assert histogram(np.zeros(0)) == ""


def test_a_client_shows_where_it_connects_and_no_token() -> None:
    client = LossClient("localhost:1", timeout=5, token="secret")  # noqa: S106
    assert repr(client) == "LossClient('localhost:1', token=..., timeout=5)"
