"""The gRPC services of a server, and the memory that they share with callers."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from lossd.backends import Backend
from lossd.errors import BackendUnavailable
from lossd.serving.config import Config
from lossd.serving.device_memory_service.memory import DeviceMemory
from lossd.serving.device_memory_service.servicer import SERVICE as DEVICE_MEMORY_SERVICE
from lossd.serving.device_memory_service.servicer import DeviceMemoryServicer
from lossd.serving.evaluation_service.servicer import EVALUATION_SERVICE, EvaluationServicer
from lossd.serving.loss_service.servicer import SERVICE, LossServicer
from lossd.serving.process.device_check import CheckedDevice
from lossd.serving.rpc.admission import ComputeSlots
from lossd.serving.rpc.handlers import Handler
from lossd.serving.rpc.shares import three_quarters
from lossd.serving.shared_memory_service.segments import SharedMemory
from lossd.serving.shared_memory_service.servicer import SERVICE as SHARED_MEMORY_SERVICE
from lossd.serving.shared_memory_service.servicer import SharedMemoryServicer
from lossd.serving.telemetry import Telemetry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """The gRPC services, and the memory that they share with callers."""

    losses: LossServicer
    evaluation: EvaluationServicer
    shared: SharedMemory | None
    device: DeviceMemory | None

    @property
    def names(self) -> tuple[str, ...]:
        """Their full names."""
        shared = () if self.shared is None else (SHARED_MEMORY_SERVICE,)
        device = () if self.device is None else (DEVICE_MEMORY_SERVICE,)
        return (SERVICE, EVALUATION_SERVICE, *shared, *device)

    def unary(self) -> Mapping[str, Handler]:
        """Returns the methods that answer one message with one, by full name."""
        shared = {} if self.shared is None else SharedMemoryServicer(self.shared).methods()
        device = {} if self.device is None else DeviceMemoryServicer(self.device).methods()
        return {**self.losses.methods(), **self.evaluation.methods(), **shared, **device}


def build_services(
    config: Config, checked: CheckedDevice, telemetry: Telemetry, installed: Mapping[str, str]
) -> Services:
    """Makes all services that a configuration asks for.

    ``installed`` are the versions of the libraries.

    Raises:
        DirectoryError: if memory cannot be shared in the directory.
        UnsupportedError: if memory cannot be shared on this machine.
    """
    compute_slots = ComputeSlots(config.compute_threads)
    shared = _shared_memory(config, telemetry, checked.chosen.backend)
    device = _device_memory(config, telemetry, checked.chosen.backend, shared)
    return Services(
        LossServicer(
            config, checked, compute_slots, telemetry, shared, device=device, installed=installed
        ),
        EvaluationServicer(config, compute_slots, telemetry),
        shared,
        device,
    )


def _shared_memory(config: Config, telemetry: Telemetry, backend: Backend) -> SharedMemory | None:
    if not config.shm_dir:
        return None
    shared = SharedMemory(
        config.shm_dir,
        segments=config.max_shm_segments,
        segment_bytes=config.max_shm_bytes,
        owned_segments=config.caller_shm_segments or three_quarters(config.max_shm_segments),
        pin=backend.pin,
    )
    telemetry.watch_shared_memory(lambda: shared.segments, lambda: shared.segment_bytes)
    return shared


def _device_memory(
    config: Config, telemetry: Telemetry, backend: Backend, shared: SharedMemory | None
) -> DeviceMemory | None:
    """Returns the memory of devices for clients; None, with a word in the log, without one."""
    if not config.max_device_bytes:
        return None
    try:
        device = _checked_device_memory(config, backend, shared)
    except BackendUnavailable as error:
        log.warning("no device memory is shared", extra={"because": str(error)})
        return None
    telemetry.watch_device_memory(lambda: device.size, config.max_device_bytes)
    return device


def _checked_device_memory(
    config: Config, backend: Backend, shared: SharedMemory | None
) -> DeviceMemory:
    if backend.exports is None or shared is None:
        got = "no GPU" if backend.exports is None else "no shm_dir"
        raise BackendUnavailable(f"device memory must have a GPU and shm_dir, got {got}")
    backend.exports.check()
    return DeviceMemory(
        backend.exports,
        shared,
        max_bytes=config.max_device_bytes,
        owned_bytes=config.caller_device_bytes or three_quarters(config.max_device_bytes),
    )
