"""gRPC server reflection, which describes the services to tools such as grpcurl."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pool
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
    servicer = reflection.ReflectionServicer((*services, SERVICE), pool=_Descriptors())
    prompt.converse(
        REFLECTION,
        reflection_pb2.ServerReflectionRequest,
        servicer.ServerReflectionInfo,
        functools.partial(admit, REFLECTION),
    )


class _Descriptors:
    """The descriptors of this process; protobuf's own pool finds methods by no name."""

    def __init__(self) -> None:
        self._pool: Any = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802 - as protobuf names it
        """Returns the file of a symbol; raises KeyError where there is none."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return found.file
