"""Writes the schema of the chart's values: ``python deploy/helm/schema.py``.

What a value may be is said once: settings and their bounds are those of the server, so that helm
refuses what the server would.
"""

import json
from pathlib import Path
from typing import Any

from lossd.serving.config import TOGETHER, Setting, settings

SCHEMA = Path(__file__).with_name("lossd") / "values.schema.json"

# The chart sets them from other values, or needs them as they are.
FIXED = {"address", "socket_mode", "metrics_host", "metrics_port", "backend", "threads"}

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
ANYTHING: Schema = {"type": "object"}
OBJECTS: Schema = {"type": "array", "items": ANYTHING}
VARIABLES: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name"],
        # Those of the server are settings, and have bounds there.
        "properties": {"name": {"type": "string", "not": {"pattern": "^LOSSD_"}}},
    },
}
# The chart has a volume of its own.
VOLUMES: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string", "not": {"const": "tmp"}}},
    },
}
MOUNTS: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "mountPath"],
        "properties": {
            "name": TEXT,
            "mountPath": {"type": "string", "pattern": "^/", "not": {"pattern": "^/tmp/?$"}},
        },
    },
}


def whole(least: int, most: int | None = None) -> Schema:
    """Returns the schema of a whole number."""
    bounds = {"minimum": least} | ({} if most is None else {"maximum": most})
    return {"type": "integer", **bounds}


def record(**members: Schema) -> Schema:
    """Returns the schema of an object with these members and no others."""
    return {"type": "object", "additionalProperties": False, "properties": members}


GPU = record(
    enabled=FLAG,
    count=whole(1),
    claim={"type": "string", "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$"},
)
KEDA = record(
    enabled=FLAG,
    minReplicas=whole(1),
    maxReplicas=whole(1),
    prometheusAddress={"type": "string", "pattern": "^https?://"},
    queueSeconds={"type": "number", "exclusiveMinimum": 0},
)


def setting_schema(setting: Setting) -> Schema:
    """Returns the schema of one setting of the server."""
    kinds = {bool: "boolean", int: "integer", float: "number"}
    found: Schema = {"description": setting.description}
    found["type"] = kinds.get(setting.type, "string")
    if setting.type not in kinds and setting.type is not str:
        found["enum"] = [str(member) for member in setting.type]  # type: ignore[attr-defined]
    if setting.bounds is not None:
        low = "exclusiveMinimum" if setting.bounds.low_open else "minimum"
        high = "exclusiveMaximum" if setting.bounds.high_open else "maximum"
        found |= {low: setting.bounds.low, high: setting.bounds.high}
    return found


def is_set(name: str) -> Schema:
    """Returns the schema of settings of which one is not empty."""
    return {"required": [name], "properties": {name: {"minLength": 1}}}


def set_with(one: str, other: str) -> Schema:
    """Returns the schema of settings of which the one means nothing without the other."""
    return {"if": is_set(one), "then": is_set(other)}


def set_without(one: str, other: str) -> Schema:
    """Returns the schema of settings of which the one must not stand beside the other."""
    return {"if": is_set(one), "then": {"properties": {other: {"maxLength": 0}}}}


def values_schema() -> Schema:
    """Returns the schema of all values."""
    free = {s.name: setting_schema(s) for s in settings() if s.name not in FIXED}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **record(
            **{"global": ANYTHING},  # Helm's own
            image=record(
                repository={"type": "string", "minLength": 1},
                tag=TEXT,
                pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
                pullSecrets=OBJECTS,
            ),
            replicas=whole(1),
            cores=whole(1),
            memory={"type": "string", "pattern": "^[1-9][0-9]*(Mi|Gi)$"},
            gpu=GPU,
            settings=record(**free)
            | {
                "allOf": [
                    *(set_with(*pair) for pair in TOGETHER),
                    set_without("access", "token_file"),
                ]
            },
            env=VARIABLES,
            volumes=VOLUMES,
            volumeMounts=MOUNTS,
            podDisruptionBudget=record(enabled=FLAG, maxUnavailable=whole(1)),
            autoscaling=record(
                enabled=FLAG,
                minReplicas=whole(1),
                maxReplicas=whole(1),
                targetCPUUtilizationPercentage=whole(1, 100),
            ),
            keda=KEDA,
            networkPolicy=record(
                enabled=FLAG, trainers=OBJECTS, monitoring=OBJECTS, egress=OBJECTS
            ),
            podMonitor=record(
                enabled=FLAG,
                interval={"type": "string", "pattern": "^[1-9][0-9]*(ms|s|m)$"},
                labels=TEXTS,
                tlsConfig=ANYTHING,
            ),
            rules=record(enabled=FLAG, labels=TEXTS, runbookBase=TEXT),
            dashboard=record(enabled=FLAG, labels=TEXTS),
            grpcRoute=record(
                enabled=FLAG, parentRefs=OBJECTS, hostnames={"type": "array", "items": TEXT}
            ),
            serviceAccount=record(create=FLAG, name=TEXT, annotations=TEXTS),
            podAnnotations=TEXTS,
            podLabels=TEXTS,
            nodeSelector=TEXTS,
            tolerations=OBJECTS,
            affinity=ANYTHING,
            priorityClassName=TEXT,
        ),
    }


def text() -> str:
    """Returns the file."""
    return json.dumps(values_schema(), indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(text())
