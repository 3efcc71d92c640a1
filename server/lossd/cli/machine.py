"""The findings of ``lossd doctor`` on this machine."""

import contextlib
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lossd import selftest, v1
from lossd.backends.choose import BackendChoice, choose, cpu_backend
from lossd.backends.cupy import PINNED_BYTES, probe
from lossd.cli.variables import misspelt_variables
from lossd.crew import usable_cores
from lossd.engine import Engine
from lossd.errors import BackendUnavailable, ServiceError
from lossd.kernels.host import Library, NoLibraryError, are_for_here
from lossd.networks import Networks, worked_networks
from lossd.routing import Route
from lossd.serving import addresses, free_addresses
from lossd.serving.access import entrance
from lossd.serving.app import networks_of, tracing_of
from lossd.serving.cautions import OPEN, cautions, on_a_disk
from lossd.serving.config import MEBIBYTE, Config
from lossd.serving.free_addresses import AddressError, TakenError
from lossd.serving.process.allocator import keep_freed_memory
from lossd.serving.process.device_check import routes_of
from lossd.serving.process.versions import versions
from lossd.serving.shared_memory_service.segments import SharedMemory

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; ``is_bad`` makes the command fail, ``is_warning`` does not."""

    thing: str
    found: str
    is_bad: bool = False
    is_warning: bool = False


_THREAD_BYTES, _OWN_BYTES = 40 << 20, 512 << 20


def findings_here(config: Config) -> Iterator[Finding]:
    """Yields the findings for a server with this configuration on this machine."""
    yield from _libraries()
    yield from _machine(config)
    yield from _losses(config)


def checks_right(checks: Iterable[selftest.Check]) -> Iterator[Finding]:
    """Yields each check with a wrong result, and the number of checks with right results."""
    found = list(checks)
    wrong = [check for check in found if check.fault]
    for check in wrong:
        yield Finding(f"{check.loss} in {check.precision}", check.fault, is_bad=True)
    yield Finding("losses", f"{len(found) - len(wrong)} of {len(found)} checks right")


def _libraries() -> Iterator[Finding]:
    for name, version in versions().items():
        yield Finding(name, version or "not installed")


def _machine(config: Config) -> Iterator[Finding]:
    available = probe()
    yield Finding("GPU", available.device or f"none: {available.reason}")
    kept = keep_freed_memory()
    yield Finding("allocator", "keeps freed memory" if kept else "gives freed memory back")
    yield Finding("cores", f"{usable_cores()} usable, {config.compute_threads} threads compute")
    yield _kernels()
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Finding("open files", f"at most {files}", is_bad=0 <= files < config.max_calls)
    yield _memory(config, 0 if config.backend is BackendChoice.NUMPY else available.count)
    yield from files_here(config)
    yield from _entrance(config)
    yield from _addresses(config)
    for name, hint in misspelt_variables().items():
        yield Finding("variables", f"{name} is no setting{hint}", is_warning=True)


def _addresses(config: Config) -> Iterator[Finding]:
    """Yields whether a server could listen; the one that does so now may be meant."""
    calls, host, port = config.address, config.metrics_host, config.metrics_port
    yield _free("address", calls, lambda: free_addresses.check_free(calls))
    pages = f"{addresses.in_url(host)}:{port}"
    yield _free("address of the pages", pages, lambda: free_addresses.check_pages_free(host, port))


def _free(thing: str, address: str, check: Callable[[], None]) -> Finding:
    try:
        check()
    except TakenError as error:
        return Finding(thing, str(error), is_warning=True)
    except AddressError as error:
        return Finding(thing, str(error), is_bad=True)
    return Finding(thing, f"{address} can be listened on")


def _kernels() -> Finding:
    """Returns which kernels there are for the CPU; the lack of them is seldom meant."""
    thing = "kernels for the CPU"
    try:
        return Finding(thing, f"compiled for {Library().instructions}")
    except NoLibraryError as error:
        return Finding(thing, f"none, NumPy alone computes: {error}", is_warning=are_for_here())


def _entrance(config: Config) -> Iterator[Finding]:
    """Yields who may come in, and for how long the certificates are good."""
    try:
        entered = entrance.build(config)
    except ServiceError as error:
        yield Finding("who may call", str(error), is_bad=True)
        return
    if addresses.is_here(config.address) and entered.gate is None:
        yield Finding("who may call", "whoever is on this host")
    elif not config.is_open:
        yield Finding("who may call", "those who prove who they are")
    told = on_a_disk(config.shm_dir)  # with what else there is to say of that directory
    for said in cautions(config, entered):
        if said == told:
            continue
        yield Finding("who may call" if said == OPEN else "settings", said, is_warning=True)
    for setting, pair in entered.certificates().items():
        days = (pair.value.expires - time.time()) / 86400
        yield Finding(setting, f"expires in {days:.1f} days", is_bad=days < 0)


def files_here(config: Config) -> Iterator[Finding]:
    """Yields whether what a server reads, shares and sends traces with is there."""
    yield _shared_directory(config)
    yield _networks(config)
    if config.tracing:
        yield _traces(config)


def _shared_directory(config: Config) -> Finding:
    thing = "shared directory"
    if not config.shm_dir:
        return Finding(thing, "none: clients of this host send their tensors over gRPC")
    try:
        with SharedMemory(config.shm_dir, segments=1, segment_bytes=1):
            free = shutil.disk_usage(config.shm_dir).free
    except ServiceError as error:
        return Finding(thing, str(error), is_bad=True)
    usable = f"{config.shm_dir} can be used, {_mebibytes(free)} free"
    caution = on_a_disk(config.shm_dir)
    return Finding(thing, f"{usable}; {caution}" if caution else usable, is_warning=bool(caution))


def _networks(config: Config) -> Finding:
    if not config.networks:
        return Finding("networks", "none: losses of images are refused")
    try:
        found = networks_of(config).by_name.values()
    except ServiceError as error:
        return Finding("networks", str(error), is_bad=True)
    return Finding(
        "networks", ", ".join(f"{n.name} ({n.architecture})" for n in found) or "none in there"
    )


def _traces(config: Config) -> Finding:
    thing = "traces"
    try:
        tracing = tracing_of(config)
    except ServiceError as error:
        return Finding(thing, str(error), is_bad=True)
    if tracing is not None:
        tracing.close()
    return Finding(thing, "are sent where the variables OTEL_* say")


def _memory(config: Config, gpus: int) -> Finding:
    """Returns whether memory suffices for what docs/operating.md says that a process takes.

    With networks, an image inside one must fit too, for every thread.
    """
    limit = _memory_limit()
    needed = (
        config.max_inflight_bytes * 3 // 2
        + min(config.max_message_bytes, config.max_inflight_bytes) * 3
        + config.compute_threads * _THREAD_BYTES
        + _OWN_BYTES
        + gpus * PINNED_BYTES
    )
    if config.networks:
        needed += config.compute_threads * config.max_network_bytes
    text = f"{_mebibytes(limit)}; with calls in flight it may take {_mebibytes(needed)}"
    return Finding("memory", text, is_bad=needed > limit)


def _memory_limit() -> int:
    """Returns the bytes that this process may use: the control group's limit, or all memory."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(total, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no control group, or "max"
        return total


def _losses(config: Config) -> Iterator[Finding]:
    try:
        chosen = choose(config.backend, threads=config.compute_threads)
    except ServiceError as error:
        yield Finding("backend", str(error), is_bad=True)
        return
    yield Finding("backend", f"{chosen.backend.name} on {chosen.backend.device} ({chosen.reason})")
    try:
        with contextlib.closing(cpu_backend(config.compute_threads)) as cpu:
            yield from routed(routes_of(chosen.backend, cpu, config))
        engine = Engine(chosen.backend, Networks(worked_networks()))
        yield from checks_right(selftest.run(engine))
    except BackendUnavailable as error:  # somebody else took its memory meanwhile
        yield Finding("backend", str(error), is_bad=True)
    finally:
        chosen.backend.close()


def routed(routes: Iterable[Route | v1.Route]) -> Iterator[Finding]:
    """Yields where losses are computed, and why."""
    for route in routes:
        yield Finding(f"{route.shape} losses", f"{route.backend}: {route.reason}")


def _mebibytes(count: int) -> str:
    return f"{count / MEBIBYTE:,.0f} MiB"
