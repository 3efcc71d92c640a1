"""gRPC server reflection, which describes the services to tools such as grpcurl."""

from collections.abc import Iterable

from grpc_reflection.v1alpha import reflection, reflection_pb2

from lossd.serving.rpc.prompt import Prompt

SERVICE = reflection.SERVICE_NAME


def serve(services: Iterable[str], prompt: Prompt) -> None:
    """Serves reflection of services, and of itself."""
    servicer = reflection.ReflectionServicer((*services, SERVICE))
    method, request = f"/{SERVICE}/ServerReflectionInfo", reflection_pb2.ServerReflectionRequest
    prompt.converse(method, request, servicer.ServerReflectionInfo)
