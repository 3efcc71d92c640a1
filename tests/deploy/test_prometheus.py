"""Rules and alerts: they parse, fire when they should, and name what there is."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Histogram

from lossd.serving.families import FAMILIES, Family
from tests.end_to_end.test_prometheus import tool

yaml = pytest.importorskip("yaml", reason="needs the extra 'dev'")

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/prometheus"
RUNBOOK = ROOT / "docs/runbook.md"
# Of Prometheus and of its client library.
OTHERS = {
    "up", "process_start_time_seconds", "process_open_fds", "process_max_fds",
    "process_cpu_seconds_total", "process_resident_memory_bytes",
}  # fmt: skip


def rules(name: str) -> list[Any]:
    groups = yaml.safe_load((FOLDER / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = rules("alerts.yml")
RECORDED = rules("recording.yml")


def series(family: Family) -> set[str]:
    """The names that a family has in a scrape."""
    if family.type is Histogram:
        return {f"{family.name}_{suffix}" for suffix in ("bucket", "sum", "count")}
    return {family.exposed_name}


def labels(family: Family) -> set[str]:
    return {*family.labels, *(("le",) if family.type is Histogram else ())}


BY_SERIES = {name: family for family in FAMILIES for name in series(family)}
KNOWN = OTHERS | BY_SERIES.keys() | {rule["record"] for rule in RECORDED}


def named(expression: str) -> set[str]:
    """The metrics that an expression asks for."""
    bare = re.sub(r'"[^"]*"', "", expression)  # values of labels
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right) *\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    words = re.findall(r"[A-Za-z_][A-Za-z0-9_:]*(?! *\()\b", bare)
    return {word for word in words if word not in {"and", "or", "unless", "bool", "Inf"}}


def matched(expression: str) -> dict[str, set[str]]:
    """The labels that an expression selects by, for each metric."""
    found: dict[str, set[str]] = {}
    for name, inside in re.findall(r"([A-Za-z_:][A-Za-z0-9_:]*)\{([^}]*)\}", expression):
        found.setdefault(name, set()).update(re.findall(r"([a-z_]+) *(?:=~|!~|!=|=)", inside))
    return found


def test_the_guard_itself_sees_names_and_labels() -> None:
    expression = 'sum by (job, le) (rate(a_total{x="b_total", y=~"c"}[5m])) / on (z) d:e > 0 and f'

    assert named(expression) == {"a_total", "d:e", "f"}
    assert matched(expression) == {"a_total": {"x", "y"}}


@pytest.mark.parametrize("rule", [*ALERTS, *RECORDED], ids=lambda r: r.get("alert") or r["record"])
def test_a_rule_asks_for_metrics_that_there_are(rule: Any) -> None:
    assert named(rule["expr"]) <= KNOWN
    for name, selected in matched(rule["expr"]).items():
        if name in BY_SERIES:
            assert selected <= labels(BY_SERIES[name]) | {"job", "namespace", "instance"}


def test_refusals_are_what_a_caller_may_ask_again() -> None:
    (rule,) = (one["expr"] for one in RECORDED if one["record"] == "lossd:refusals:ratio_rate5m")
    (counted,) = re.findall(r'reason=~"([A-Z_|]+)"', rule)
    (row,) = (
        line
        for line in (ROOT / "docs/wire.md").read_text().splitlines()
        if line.endswith("| `RESOURCE_EXHAUSTED`, with RetryInfo |")
    )

    assert counted.split("|") == re.findall("`([A-Z_]+)`", row)[:-1]


def test_no_family_is_named_with_the_suffix_that_a_counter_gets() -> None:
    assert not any(family.name.endswith("_total") for family in FAMILIES)


def test_promtool_finds_nothing_to_say() -> None:
    files = [str(FOLDER / name) for name in ("recording.yml", "alerts.yml")]
    done = subprocess.run(
        [tool("promtool"), "check", "rules", "--lint-fatal", *files],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_its_file_and_finds_the_rules_beside_it() -> None:
    done = subprocess.run(
        [tool("promtool"), "check", "config", str(FOLDER / "prometheus.yml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"SUCCESS: \d+ rules found", done.stdout)) == 2


def test_alerts_fire_and_stay_silent_as_their_tests_say() -> None:
    done = subprocess.run(
        [tool("promtool"), "test", "rules", "tests.yml"],
        cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_is_tested_both_ways_and_has_its_page(alert: Any) -> None:
    name = alert["alert"]
    groups = {
        group["name"]: group
        for group in yaml.safe_load((FOLDER / "tests.yml").read_text())["tests"]
    }
    expected = [check["exp_samples"] for check in groups[name]["promql_expr_test"]]

    assert expected[0] == []
    assert name in str(expected[-1])
    assert alert["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
    assert f"\n## {name}\n" in RUNBOOK.read_text()
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}


def test_the_runbook_has_no_page_of_an_alert_that_is_gone() -> None:
    assert re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE) == [
        a["alert"] for a in ALERTS
    ]
