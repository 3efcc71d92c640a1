"""Cross-entropy of 32x10 behind PyTriton, for ``transport.py --pytriton``; runs in its environment.

    python3 -m venv DIRECTORY && DIRECTORY/bin/pip install nvidia-pytriton==0.7.0
    python benchmarks/transport.py --pytriton DIRECTORY/bin/python

PyTriton 0.7 wants the Python of the system, glibc 2.35 or newer, and no GPU.  It imports nothing of
lossd.  It writes a line of JSON with the port of its gRPC service and an encoded request, and ends
when its input does.
"""

import base64
import json
import socket
import sys
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from tritonclient import grpc

ROWS, CLASSES = 32, 10
MOST_ROWS = 64 * ROWS  # of calls at the same time, which are computed together


@batch  # type: ignore[untyped-decorator]
def infer(predictions: Any, targets: Any) -> dict[str, Any]:
    """Returns the value and the gradient of each row."""
    rows, labels = np.arange(len(predictions)), targets[:, 0]
    margins = predictions - predictions.max(axis=1, keepdims=True)
    gradient = np.exp(margins)
    totals = gradient.sum(axis=1)
    values = np.log(totals) - margins[rows, labels]
    gradient /= totals[:, None]
    gradient[rows, labels] -= 1
    return {"per_example": values[:, None], "gradient": gradient}


def request() -> bytes:
    """Returns an encoded request."""
    random = np.random.default_rng(0)
    given: dict[str, Any] = {
        "predictions": random.standard_normal((ROWS, CLASSES), np.float32),
        "targets": random.integers(0, CLASSES, (ROWS, 1)),
    }
    inputs = []
    for name, array in given.items():
        kind = "FP32" if array.dtype == np.float32 else "INT64"
        inputs.append(grpc.InferInput(name, array.shape, kind))
        inputs[-1].set_data_from_numpy(array)
    made = grpc.service_pb2.ModelInferRequest(model_name="cross_entropy")
    for one in inputs:
        made.inputs.append(one._get_tensor())  # noqa: SLF001 - there is no other way
        made.raw_input_contents.append(one._get_content())  # noqa: SLF001
    encoded: bytes = made.SerializeToString()
    return encoded


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Serves until the input ends."""
    told_to, sys.stdout = sys.stdout, sys.stderr  # PyTriton prints what its server logs
    ports = {f"{name}_port": free_port() for name in ("http", "grpc", "metrics")}
    config = TritonConfig(http_address="127.0.0.1", grpc_address="127.0.0.1", **ports)
    with Triton(config=config) as triton:
        triton.bind(
            "cross_entropy",
            infer,
            inputs=[
                Tensor(name="predictions", dtype=np.float32, shape=(CLASSES,)),
                Tensor(name="targets", dtype=np.int64, shape=(1,)),
            ],
            outputs=[
                Tensor(name="per_example", dtype=np.float32, shape=(1,)),
                Tensor(name="gradient", dtype=np.float32, shape=(CLASSES,)),
            ],
            config=ModelConfig(max_batch_size=MOST_ROWS),
        )
        triton.run()
        told = {"port": ports["grpc_port"], "request": base64.b64encode(request()).decode()}
        print(json.dumps(told), file=told_to, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
