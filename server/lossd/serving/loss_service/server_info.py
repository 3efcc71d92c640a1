"""The server as data, for ``GetServerInfo``: versions, backend, limits, and what it offers."""

from collections.abc import Mapping

from lossd import v1
from lossd.networks import Network
from lossd.routing import Route
from lossd.serving.call import DEVICE_MEMORY, GRPC, SHARED_MEMORY
from lossd.serving.config import Config
from lossd.serving.device_memory_service.memory import DeviceMemory
from lossd.serving.device_memory_service.servicer import offer as device_offer
from lossd.serving.process.device_check import CheckedDevice
from lossd.serving.shared_memory_service.segments import SharedMemory
from lossd.serving.shared_memory_service.servicer import offer


def server_info(
    config: Config,
    checked: CheckedDevice,
    installed: Mapping[str, str],
    shared: SharedMemory | None,
    device: DeviceMemory | None,
) -> v1.GetServerInfoResponse:
    """Describes the server to a caller to whom this memory is offered.

    ``installed`` are the versions of its libraries.
    """
    chosen, libraries = checked.chosen, {**installed}
    return v1.GetServerInfoResponse(
        version=libraries.pop("lossd"),
        backend=chosen.backend.name,
        backend_reason=chosen.reason,
        device=chosen.backend.device,
        libraries=[v1.LibraryVersion(name=name, version=v) for name, v in libraries.items() if v],
        limits=v1.Limits(
            message_size_bytes=config.max_message_bytes,
            tensors=config.max_tensors,
            axes=config.max_axes,
            concurrent_calls=config.max_calls,
            inflight_bytes=config.max_inflight_bytes,
            network_bytes=config.max_network_bytes,
        ),
        transports=_transports(shared, device),
        shared_memory=None if shared is None else offer(shared),
        device_memory=None if device is None else device_offer(device),
        routes=[_route(route) for route in checked.routes],
        networks=[_described(network) for network in checked.engine.networks.by_name.values()],
    )


def _transports(shared: SharedMemory | None, device: DeviceMemory | None) -> list[str]:
    offered = {GRPC: True, SHARED_MEMORY: shared is not None, DEVICE_MEMORY: device is not None}
    return [transport for transport, is_offered in offered.items() if is_offered]


def _route(route: Route) -> v1.Route:
    return v1.Route(
        shape=route.shape,
        losses=route.losses,
        backend=route.backend,
        device_backend=route.on_device,
        reason=route.reason,
    )


def _described(network: Network) -> v1.NetworkDescription:
    return v1.NetworkDescription(
        name=network.name,
        architecture=network.architecture,
        channels=network.channels,
        layers=network.layers,
        lpips_layers=network.heads.layers if network.heads else (),
        sha256=network.sha256,
    )
