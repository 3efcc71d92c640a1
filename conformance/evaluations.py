"""Vectors of metrics, whose right answers are counted by hand."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from conformance.vector import EVALUATE, EVALUATE_STREAM, Refused, Vector
from lossd import tensors, v1
from lossd.client.metrics import build_request, listed

_RELATIVE = 1e-12
SCORES = np.array([0.9, 0.8, 0.3, 0.2, -0.5], np.float32)
POSITIVES = np.array([1, 0, 1, 0, 0])


def vectors() -> Iterator[Vector]:
    """Yields them."""
    yield _numbers()
    yield _stream()
    yield _texts()
    yield _tokens()
    yield Vector(
        "evaluation_without_metrics", "No metric.", EVALUATE, [v1.EvaluateRequest()],
        refused=Refused("INVALID_ARGUMENT", "INVALID_REQUEST", ["metrics"]),
    )  # fmt: skip
    yield Vector(
        "evaluation_of_an_unknown_metric", "A metric that is unset.", EVALUATE,
        [v1.EvaluateRequest(metrics=[v1.MetricSpec()])],
        refused=Refused("UNIMPLEMENTED", "UNKNOWN_METRIC", ["metrics[0]"]),
    )  # fmt: skip


def _counted(reply: v1.EvaluateResponse, name: str, value: Fraction, count: int) -> None:
    reply.results.add(metric=name, value=float(value), example_count=count)


def _numbers() -> Vector:
    metrics = [v1.RocAuc(), v1.Accuracy(), v1.ConfusionMatrix()]
    request = build_request(listed(metrics), {"predictions": SCORES, "targets": POSITIVES})
    reply = v1.EvaluateResponse()
    _counted(reply, "roc_auc", Fraction(5, 6), 5)  # of 6 pairs only 0.3 and 0.8 are out of order
    _counted(reply, "accuracy", Fraction(3, 5), 5)  # scores above 0 say yes
    matrix = reply.results.add(metric="confusion_matrix", example_count=5)
    tensors.fill(matrix.values, np.array([[1.0, 2.0], [0.0, 2.0]]))
    about = "Three metrics of one batch, one of which is a matrix."
    return Vector("evaluation", about, EVALUATE, [request], [reply], None, _RELATIVE)


def _stream() -> Vector:
    parts = []
    for place, rows in enumerate((slice(0, 2), slice(2, 5))):
        batch = {"predictions": SCORES[rows], "targets": POSITIVES[rows]}
        specs = listed([v1.RocAuc()]) if place == 0 else []
        parts.append(v1.EvaluateStreamRequest(part=build_request(specs, batch)))
    whole = v1.EvaluateResponse()
    _counted(whole, "roc_auc", Fraction(5, 6), 5)
    reply = v1.EvaluateStreamResponse(whole=whole)
    about = "Two batches, evaluated as one."
    return Vector("evaluation_of_a_stream", about, EVALUATE_STREAM, parts, [reply], None, _RELATIVE)


def _edited() -> v1.EvaluateResponse:
    """Of 3 and 4 words, one is replaced and two are missing."""
    reply = v1.EvaluateResponse()
    _counted(reply, "word_error_rate", Fraction(3, 7), 2)
    for name, value in (("edits", 3.0), ("length", 7.0)):
        tensors.fill(reply.results[0].outputs.add(name=name).tensors.add(), np.array(value))
    return reply


def _texts() -> Vector:
    texts = {
        "hypotheses": ["the cat sat", "on mats"],
        "references": [["the dog sat"], ["on the mats here"]],
    }
    request = build_request(listed([v1.WordErrorRate()]), texts)
    about = "Texts, each with one reference."
    return Vector("evaluation_of_texts", about, EVALUATE, [request], [_edited()], None, _RELATIVE)


def _tokens() -> Vector:
    """The same as tokens, laid end to end."""
    tokens = {
        "hypotheses": [[7, 1, 3], [4, 5]],
        "references": [[[7, 2, 3]], [[4, 7, 5, 6]]],
    }
    request = build_request(listed([v1.WordErrorRate()]), tokens)
    about = "Sequences of tokens, end to end, with their lengths and counts."
    return Vector("evaluation_of_tokens", about, EVALUATE, [request], [_edited()], None, _RELATIVE)
