"""The dashboard as Grafana stores it: rows of panels on a grid, and variables to choose with."""

import json
from typing import Any

from deploy.grafana.panels import RATE, Panel, each
from deploy.grafana.rows import faults, gpu, latency, overview, saturation, training

WIDTH = 24  # of Grafana's grid
DATA = {"type": "prometheus", "uid": "${datasource}"}

ROWS = {
    "Overview": overview.PANELS,
    "Latency by phase": latency.PANELS,
    "Saturation against limits": saturation.PANELS,
    "Errors": faults.PANELS,
    "Training curves": training.PANELS,
    "GPU": gpu.PANELS,
}

VARIABLES = {
    "namespace": "label_values(lossd_build_info, namespace)",
    "job": 'label_values(lossd_build_info{namespace=~"$namespace"}, job)',
    "instance": 'label_values(lossd_build_info{namespace=~"$namespace", job=~"$job"}, instance)',
    "loss": f"label_values({each('lossd_requests_total')}, loss)",
    "training_job": f"label_values({each('lossd_training_batches_total')}, training_job)",
}


def panel(described: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    """Returns a panel as Grafana stores it."""
    is_instant = described.kind in ("stat", "table")
    defaults: dict[str, Any] = {"unit": described.unit}
    if described.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 20 if described.stacked else 0,
            "stacking": {"mode": "normal" if described.stacked else "none"},
            "showPoints": "never",
        }
    for below, above, limit in (
        ("green", "red", described.red_from),
        ("red", "green", described.red_below),
    ):
        if limit is not None:
            steps = [{"color": below, "value": None}, {"color": above, "value": limit}]
            defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    return {
        "id": number,
        "type": described.kind,
        "title": described.title,
        "description": described.says,
        "datasource": DATA,
        "gridPos": {"h": described.height, "w": described.width, "x": x, "y": y},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + position),
                "datasource": DATA,
                "expr": query.expression,
                "legendFormat": query.legend or "__auto",
                "instant": is_instant,
                "range": not is_instant,
                "format": "table" if described.kind == "table" else "time_series",
            }
            for position, query in enumerate(described.queries)
        ],
    }


def panels() -> list[dict[str, Any]]:
    """Returns rows and panels, from left to right and from top to bottom."""
    found: list[dict[str, Any]] = []
    y = 0
    for title, members in ROWS.items():
        place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        row = {"id": len(found) + 1, "type": "row", "title": title, "collapsed": False}
        found.append({**row, "gridPos": place, "panels": []})
        x, y, height = 0, y + 1, 0
        for member in members:
            if x + member.width > WIDTH:
                x, y, height = 0, y + height, 0
            found.append(panel(member, len(found) + 1, x, y))
            x, height = x + member.width, max(height, member.height)
        y += height
    return found


def variable(name: str, query: str) -> dict[str, Any]:
    """Returns a variable whose values Prometheus knows; all of them at first."""
    return {
        "name": name,
        "type": "query",
        "datasource": DATA,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,  # whenever the time range changes
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def board() -> dict[str, Any]:
    """Returns the dashboard."""
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {}}
    restarts = f"changes({each('process_start_time_seconds')}[{RATE}]) > 0"
    return {
        "uid": "lossd",
        "title": "lossd",
        "description": "Losses computed over gRPC: traffic, latency, limits, errors and training.",
        "tags": ["lossd"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "annotations": {
            "list": [
                {
                    "name": "Restarts",
                    "datasource": DATA,
                    "enable": True,
                    "iconColor": "orange",
                    "expr": restarts,
                    "titleFormat": "{{instance}} was started",
                }
            ]
        },
        "templating": {"list": [source, *(variable(*item) for item in VARIABLES.items())]},
        "panels": panels(),
    }


def text() -> str:
    """Returns the file."""
    return json.dumps(board(), indent=2, ensure_ascii=False) + "\n"
