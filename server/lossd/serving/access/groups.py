"""Which group each method belongs to."""

from collections.abc import Mapping
from types import MappingProxyType

from grpc_reflection.v1alpha import reflection

from lossd.serving.caller import Group
from lossd.v1 import (
    device_memory_service_pb2,
    evaluation_service_pb2,
    loss_service_pb2,
    shared_memory_service_pb2,
)

REFLECTION = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"
_INFORMATION = {"ListLosses", "ListMetrics", "GetServerInfo"}


def _methods() -> dict[str, Group]:
    files = (
        (loss_service_pb2, Group.COMPUTE),
        (evaluation_service_pb2, Group.EVALUATE),
        (shared_memory_service_pb2, Group.SHARED_MEMORY),
        (device_memory_service_pb2, Group.SHARED_MEMORY),
    )
    return {
        f"/{service.full_name}/{method.name}": Group.INFORMATION
        if method.name in _INFORMATION
        else group
        for file, group in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


GROUPS: Mapping[str, Group] = MappingProxyType({**_methods(), REFLECTION: Group.REFLECTION})
