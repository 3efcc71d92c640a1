"""Checks a GPU before any call is answered from it.

Kernels are compiled on the machine that runs them, by a compiler and for a device that no test has
seen.  So the server first has the device compute the worked examples of every loss, and long rows
in every type for every kernel.  A loss that it gets wrong is computed by NumPy instead, which is
slower but right.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lossd import routing, selftest
from lossd.backends import Backend
from lossd.backends.choose import BackendChoice, Chosen, cpu_backend
from lossd.backends.numpy import NumpyBackend
from lossd.engine import Engine
from lossd.errors import BackendUnavailable
from lossd.losses import LOSSES
from lossd.networks import Networks, worked_networks
from lossd.plan import HOST
from lossd.routing import Route
from lossd.serving.config import Config
from lossd.shapes import rules_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CheckedDevice:
    """The backends to compute with, and the ``faults`` of losses that NumPy computes instead.

    ``routes`` tell where losses are computed, where that was measured.
    """

    chosen: Chosen
    engine: Engine
    faults: Mapping[str, str]
    routes: Sequence[Route] = ()


def check_device(chosen: Chosen, config: Config, networks: Networks) -> CheckedDevice:
    """Checks a device, unless it is the CPU or the operator trusts it.

    Raises:
        BackendUnavailable: if the operator wants the device, and it gets every loss wrong.
    """
    faults = _faults(chosen.backend) if config.check_device else {}
    if faults.keys() >= {loss.name for loss in LOSSES.values() if not rules_of(loss).on_host}:
        return _given_up(chosen, config, networks, next(iter(faults.values())))
    cpu = cpu_backend(config.compute_threads)
    overrides = dict.fromkeys(faults, cpu)
    try:
        routes = routes_of(chosen.backend, cpu, config)
    except BackendUnavailable as error:  # somebody else took its memory meanwhile
        return _on_cpu(chosen, config, networks, f"no usable GPU: {error}")
    routed = {name: cpu for route in routes if route.backend == HOST for name in route.losses}
    engine = Engine(chosen.backend, networks, overrides=overrides, routes=routed)
    return CheckedDevice(chosen, engine, faults, routes)


def routes_of(backend: Backend, cpu: Backend, config: Config) -> Sequence[Route]:
    """Returns where losses are computed, if the operator leaves that to us and there is a GPU.

    ``cpu`` is the backend for the CPU.

    Raises:
        BackendUnavailable: if the GPU has no memory for that.
    """
    rates = backend.rates() if config.backend is BackendChoice.AUTO else None
    if rates is None:
        return ()
    return routing.routes(rates, routing.measured_on(Engine(cpu)), routing.parsed(config.routes))


def _faults(backend: Backend) -> dict[str, str]:
    if backend.name == NumpyBackend.name:
        return {}
    log.info("trying the device out", extra={"device": backend.device})
    engine = Engine(backend, Networks(worked_networks()))
    faults = selftest.faults(engine)
    # A fault on a device may leave it useless, even for losses that it got right before.
    return selftest.faults(engine) | faults if faults else {}


def _given_up(chosen: Chosen, config: Config, networks: Networks, fault: str) -> CheckedDevice:
    name, device = chosen.backend.name, chosen.backend.device
    if config.backend is not BackendChoice.AUTO:
        chosen.backend.close()
        raise BackendUnavailable(f"backend must compute right, got {name} on {device}: {fault}")
    return _on_cpu(chosen, config, networks, f"{device} gets every loss wrong: {fault}")


def _on_cpu(chosen: Chosen, config: Config, networks: Networks, reason: str) -> CheckedDevice:
    """Takes the CPU in the place of a device."""
    chosen.backend.close()
    cpu = cpu_backend(config.compute_threads)
    return CheckedDevice(Chosen(cpu, reason, is_fallback=True), Engine(cpu, networks), {})
