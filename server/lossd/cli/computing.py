"""Computes losses as ``lossd compute`` is told: on a server, or in this process as one would."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lossd import sums
from lossd.backends.choose import BackendChoice, choose
from lossd.cli.merging import Compute
from lossd.cli.reaching import Credentials, connected_client
from lossd.client.requests import build_request
from lossd.client.responses import read_response
from lossd.client.result import LossResult
from lossd.crew import usable_cores
from lossd.engine import Engine
from lossd.networks import Networks
from lossd.networks import load as load_networks
from lossd.serving.loss_service import replies as loss_replies
from lossd.serving.loss_service import requests as loss_requests
from lossd.serving.wire.reader import Limits
from lossd.v1.losses import Loss


@contextlib.contextmanager
def computing(
    message: Loss, server: tuple[str, Credentials] | None, networks: Path | None
) -> Iterator[Compute]:
    """Yields what computes one batch: a server, or this process as a server would."""
    if server is not None:
        with connected_client(*server) as client:
            yield functools.partial(client.compute, message)
        return
    found = Networks(load_networks(networks)) if networks else Networks()
    backend = choose(BackendChoice.AUTO, threads=usable_cores()).backend
    engine = Engine(backend, found)

    def compute(
        *, reduction: str, gradients: Any, weights: Any = None, mask: Any = None, **rest: Any
    ) -> LossResult[Any]:
        named = {"reduction": reduction, "gradients": gradients, "weights": weights, "mask": mask}
        others = {name: rest.pop(name) for name in ("per_example", "normalizer") if name in rest}
        request = build_request(message, rest, **named, **others)
        work = loss_requests.read_request(request, Limits())
        return read_response(loss_replies.response(sums.run(engine, work)))

    try:
        yield compute
    finally:
        backend.close()
