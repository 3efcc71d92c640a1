"""Evaluates metrics as ``lossd evaluate`` is told: on a server, or in this process as one would."""

from collections.abc import Iterable
from typing import Any

from lossd import v1
from lossd.cli.failures import told
from lossd.cli.inputs import EXTRAS
from lossd.cli.pieces import PlacedPiece
from lossd.cli.reaching import Credentials, connected_client
from lossd.client import InvalidRequestError, MetricResult
from lossd.client import metrics as metrics_wire
from lossd.evaluation import State, StateError, merged
from lossd.framing import Framed
from lossd.serving.evaluation_service import codec as evaluation_codec
from lossd.serving.wire.reader import Limits, RequestReader
from lossd.v1.metrics import Metric


def evaluated_here(message: Metric, pieces: Iterable[PlacedPiece]) -> MetricResult:
    """Evaluates as a server would, without one."""
    one = evaluation_codec.read_spec(metrics_wire.spec_of(message), "metric")
    state = State()
    for piece in pieces:
        with told(piece.where):
            request = metrics_wire.build_request((), **_arguments(piece.arrays))
            read = evaluation_codec.batch(
                request.batch, [one], lambda: None, RequestReader(None, Limits())
            )
            state = _added(state, one.observe(read))
    result = evaluation_codec.result(one, state, one.metric.score(state, one.parameters))
    return metrics_wire.read_results(Framed(v1.EvaluateResponse(results=[result])))[0]


def _added(state: State, batch: State) -> State:
    try:
        return merged([state, batch])
    except StateError as error:
        raise InvalidRequestError(
            f"batch must be like the data before it, got one where {error}"
        ) from error


def evaluated_there(
    server: tuple[str, Credentials], message: Metric, pieces: Iterable[PlacedPiece]
) -> MetricResult:
    """Has a server evaluate."""
    sent = [""]  # the metric
    try:
        with connected_client(*server) as client, client.evaluation(message) as run:
            for piece in pieces:
                sent.append(piece.where)
                run.update(**piece.arrays)
            return run.result()
    except InvalidRequestError as error:
        # The server tells of which piece it is, of the last or before it; the client's own is of
        # the last.
        part = error.metadata.get("part", 0 if error.reason else -1)
        with told(sent[int(part)]):
            raise


def _arguments(batch: dict[str, Any]) -> dict[str, Any]:
    extras: dict[str, Any] = {name: batch[name] for name in EXTRAS if name in batch}
    return {"inputs": {n: v for n, v in batch.items() if n not in extras}, **extras}
