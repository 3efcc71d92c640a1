"""Valid calls of every kind, as the messages that they send: what is then changed."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossd import chunks, v1
from lossd.client.requests import build_request
from lossd.evaluation import METRICS, Metric
from lossd.framing import Framed
from lossd.losses import LOSSES, Loss, Shape
from lossd.naming import members_of
from lossd.serving.evaluation_service.servicer import EVALUATION_SERVICE
from lossd.serving.loss_service.servicer import SERVICE
from lossd.serving.shared_memory_service.servicer import SERVICE as SHARED_MEMORY_SERVICE
from tests.messages import message_of, request_of
from tests.sampling import cases, coupled_cases

if TYPE_CHECKING:
    from tests.losses.case import Case

COMPUTE, STREAM = f"/{SERVICE}/ComputeLoss", f"/{SERVICE}/StreamLoss"
EVALUATE = f"/{EVALUATION_SERVICE}/Evaluate"
EVALUATE_STREAM = f"/{EVALUATION_SERVICE}/EvaluateStream"
STREAMS = {STREAM, EVALUATE_STREAM}

_CASES = 12  # of one loss
_OPTIONS: tuple[dict[str, Any], ...] = (
    {}, {"per_example": False}, {"gradients": ()}, {"reduction": "sum"}, {"normalizer": 3.0},
    {"reduction": "batch_mean", "empty": "error"}, {"nonfinite": "zero"}, {"nonfinite": "error"},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seed:
    """A call: its method, and its messages."""

    method: str
    messages: tuple[bytes, ...]


def seeds() -> list[Seed]:
    """Calls of every loss and metric, by every method that there is."""
    drawn = random.Random(0)  # noqa: S311 - no secret
    computed = [request for loss in LOSSES.values() for request in _requests(loss, drawn)]
    evaluated = [request for metric in METRICS.values() for request in _evaluations(metric)]
    made = [Seed(COMPUTE, (one.SerializeToString(),)) for one in (*computed, _sum(), _beside())]
    made += [Seed(STREAM, _in_chunks(one)) for one in drawn.sample(computed, 80)]
    made += [Seed(EVALUATE, (one.SerializeToString(),)) for one in evaluated]
    made += [Seed(EVALUATE_STREAM, _in_parts(one)) for one in evaluated]
    return [*made, *_small()]


def _requests(loss: Loss, drawn: random.Random) -> Iterator[v1.ComputeLossRequest]:
    found = (coupled_cases if loss.shape is Shape.COUPLED else cases)(loss)
    several: list[Case] = list(itertools.islice(found, 4 * _CASES))
    for case in drawn.sample(several, min(_CASES, len(several))):
        dtype = drawn.choice((np.float32, np.float32, np.float64, np.float16))
        yield request_of(case.astype(dtype), **drawn.choice(_OPTIONS))


def _sum() -> v1.ComputeLossRequest:
    first, second = (next(cases(LOSSES[name])) for name in ("squared_error", "huber"))
    term = v1.WeightedTerm(weight=2, loss=v1.LossSpec(squared_error=message_of(first)))
    other = v1.WeightedTerm(weight=-1, loss=v1.LossSpec(huber=message_of(second)))
    made: v1.ComputeLossRequest = build_request(
        v1.LossSpec(weighted_sum=v1.WeightedSum(terms=[term, other])), dict(first.inputs)
    ).message
    return made


def _beside() -> v1.ComputeLossRequest:
    """A loss with metrics of its batch."""
    made = v1.MetricSpec(accuracy=v1.Accuracy()), v1.MetricSpec(roc_auc=v1.RocAuc())
    found: v1.ComputeLossRequest = build_request(
        v1.CrossEntropy(),
        {"predictions": np.eye(4, 3, dtype=np.float32), "targets": np.array([0, 1, 2, 1])},
        metrics=made,
    ).message
    return found


def _evaluations(metric: Metric) -> Iterator[v1.EvaluateRequest]:
    from lossd.client import metrics as client  # noqa: PLC0415 - its names are those of ours

    for example in metric.examples:
        message = getattr(v1, metric.message)(**_parameters(metric, example.parameters))
        spec = v1.MetricSpec(**{metric.name: message})
        for is_kept in (False, True):
            yield client.build_request([spec], dict(example.inputs), return_state=is_kept)


def _parameters(metric: Metric, given: Any) -> dict[str, Any]:
    fields = getattr(v1, metric.message).DESCRIPTOR.fields_by_name
    found = {}
    for name, value in given.items():
        kind = fields[name].enum_type
        found[name] = members_of(kind)[value.name] if kind else value
    return found


def _in_chunks(request: v1.ComputeLossRequest) -> tuple[bytes, ...]:
    framed = Framed.parse(v1.ComputeLossRequest, request.SerializeToString(), least=0)
    head, following = chunks.split(framed)
    first = v1.StreamLossRequest(call=head).SerializeToString()
    return (first, *chunks.encoded_chunks(following))


def _in_parts(request: v1.EvaluateRequest) -> tuple[bytes, ...]:
    again = v1.EvaluateRequest()
    again.CopyFrom(request)
    del again.metrics[:]
    parts = (v1.EvaluateStreamRequest(part=one) for one in (request, again))
    return tuple(part.SerializeToString() for part in parts)


def _small() -> list[Seed]:
    attach = v1.AttachSegmentRequest(name="lossd-1", size=4096).SerializeToString()
    detach = v1.DetachSegmentRequest(segment=b"0" * 16).SerializeToString()
    return [
        Seed(f"/{SHARED_MEMORY_SERVICE}/AttachSegment", (attach,)),
        Seed(f"/{SHARED_MEMORY_SERVICE}/DetachSegment", (detach,)),
        *(Seed(f"/{SERVICE}/{name}", (b"",)) for name in ("ListLosses", "GetServerInfo")),
        Seed(f"/{EVALUATION_SERVICE}/ListMetrics", (b"",)),
    ]
