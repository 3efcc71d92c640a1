"""gRPC server reflection, which describes the services to tools such as grpcurl."""

import functools
from collections.abc import Callable, Iterable

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from lossd.serving.access.groups import REFLECTION
from lossd.serving.rpc.prompt import Prompt

SERVICE = reflection.SERVICE_NAME


def serve(
    services: Iterable[str],
    prompt: Prompt,
    admit: Callable[[str, grpc.ServicerContext], object] = lambda *_: None,
) -> None:
    """Tells of services, and of itself, those whom ``admit`` lets in."""
    servicer = reflection.ReflectionServicer((*services, SERVICE))
    prompt.converse(
        REFLECTION,
        reflection_pb2.ServerReflectionRequest,
        servicer.ServerReflectionInfo,
        functools.partial(admit, REFLECTION),
    )
