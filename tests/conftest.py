"""Fixtures that every folder shares: the backends there are, the catalogue, and the clients."""

import contextlib
import gc
import importlib.util
import os
import shutil
import signal
import sys
import sysconfig
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from lossd.backends._host import NO_KERNELS, HostKernels
from lossd.backends.numpy import NumpyBackend
from lossd.engine import Engine
from lossd.kernels.host import Library
from lossd.losses import LOSSES, Loss, Shape
from tests import flavours, selection
from tests.device import stand_in_for_sorting
from tests.drawn_networks import NETWORKS
from tests.flavours import Flavour


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--whole",
        action="store_true",
        help="run every combination of parameters, and sweeps and soaks at full length: "
        "else a sample, always the same, in which each value of each parameter occurs",
    )
    parser.addoption(
        "--one-in",
        type=int,
        default=1,
        metavar="N",
        help="of the tests on a GPU run every N-th only, always the same ones, "
        "and those that are for the fake device alone",
    )
    parser.addoption(
        "--slice",
        type=int,
        default=0,
        metavar="K",
        help="of these take others: all of 0 to N - 1 together run every test on a GPU",
    )
    parser.addoption(
        "--environments",
        action="store_true",
        help="run the tests that make environments out of the package index: gigabytes",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Makes the environment of all tests, and of what they start."""
    _drop_settings()
    _keep_bytecode(config)


def _drop_settings() -> None:
    """Drops settings of whoever calls pytest: they are those of servers and commands of his own.

    What lossd does not know among them would be warned of, which is a failure too.
    """
    for name in [name for name in os.environ if name.startswith(("LOSSD_", "_LOSSD_"))]:
        del os.environ[name]


def _keep_bytecode(config: pytest.Config) -> None:
    """Keeps bytecode in pytest's cache where none may be written beside the sources.

    Else each of some hundred servers would compile all of lossd, and each worker all tests.
    """
    if sys.dont_write_bytecode and hasattr(config, "cache"):
        folder = config.cache.mkdir("bytecode")
        if not any(folder.iterdir()):
            _bring_bytecode(folder)
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(folder)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def _bring_bytecode(folder: Path) -> None:
    """Links what was compiled as libraries were installed, which Python looks for in a folder now.

    Else each worker would compile them, at the same time as the others.
    """
    for library in {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}:
        for compiled in Path(library).rglob("__pycache__/*.pyc"):
            own = folder / compiled.parent.parent.relative_to(compiled.anchor) / compiled.name
            own.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                own.symlink_to(compiled)


# A busy machine is no failure.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(autouse=True)
def serves_nothing_in_its_own_process() -> Iterator[None]:
    """Finds a test that runs ``lossd serve`` in its own process, which that would end.

    From then on a signal or a thread that dies, in any later test, ends it without a word.
    """
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is before, "serve in a process of its own"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Has ``-n auto`` use two workers more than there are cores: many tests wait for a server."""
    return len(os.sched_getaffinity(0)) + 2


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Spares the garbage collector the tests, which live as long as the process.

    It would look at a million objects again and again, while they are made and in every test that
    asks for a collection.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what takes minutes, unless it is asked for."""
    if not config.getoption("--environments"):
        reason = "makes an environment out of the package index: run with --environments"
        for item in items:
            if item.get_closest_marker("environments"):
                item.add_marker(pytest.mark.skip(reason=reason))
    kept = set(items) if config.getoption("--whole") else selection.covering(items)
    if importlib.util.find_spec("cupy") is None:  # thousands would say that they are skipped
        on_device = {item for item in kept if selection.is_of_a_device(item)}
        kept -= on_device - selection.one_of_each_function(on_device)
    share, part = config.getoption("--one-in"), config.getoption("--slice")
    kept -= {item for item in kept if _is_slow(item) and selection.number(item) % share != part}
    if left_out := [item for item in items if item not in kept]:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item in kept]


def _is_slow(item: pytest.Item) -> bool:
    """Returns whether a fake device takes a minute for what a real one does in a second."""
    return selection.is_of_a_device(item) and "fake" not in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def whole(pytestconfig: pytest.Config) -> bool:
    """Whether all is to be tried, for some minutes."""
    return bool(pytestconfig.getoption("--whole"))


# Each example is a row of its inputs; the other shapes have modules of their own.
OF_ROWS = (Shape.POINTWISE, Shape.ROWWISE, Shape.REGIONWISE, Shape.VECTORS)
ENGINES = ["numpy-1", "numpy-2", "compiled-2", pytest.param("cupy", marks=pytest.mark.gpu)]


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine on each backend that this machine has."""
    name, _, threads = request.param.partition("-")
    if name == "cupy":
        made = _cupy_engine()
    else:
        kernels = compiled_kernels() if name == "compiled" else NO_KERNELS
        made = Engine(NumpyBackend(int(threads), kernels), NETWORKS)
    yield made
    made.backend.close()


def compiled_kernels() -> HostKernels:
    """The kernels for the CPU, where there is a compiler: else NumPy computes alone."""
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler")
    return HostKernels(Library())


def _cupy_engine() -> Engine:
    cupy = pytest.importorskip("lossd.backends.cupy", exc_type=ImportError)
    if not (available := cupy.probe()):
        pytest.skip(available.reason)
    stand_in_for_sorting(cupy._import_cupy())
    return Engine(cupy.CupyBackend(), NETWORKS)


@pytest.fixture(params=list(LOSSES.values()), ids=list(LOSSES))
def any_loss(request: pytest.FixtureRequest) -> Loss:
    """Each loss of the catalogue."""
    found: Loss = request.param
    return found


@pytest.fixture(scope="session", params=["threads", "asyncio"])
def flavour(request: pytest.FixtureRequest) -> Iterator[Flavour]:
    """Each of the two clients."""
    with flavours.flavour(request.param) as given:
        yield given


@pytest.fixture
def connect(flavour: Flavour) -> Any:
    """Makes a client."""
    return flavour.connect


@pytest.fixture(params=[x for x in LOSSES.values() if x.shape in OF_ROWS], ids=lambda x: x.name)
def loss(request: pytest.FixtureRequest) -> Loss:
    """Each loss that gives every example a value which depends on that example alone."""
    found: Loss = request.param
    return found


@pytest.fixture(
    params=[x for x in LOSSES.values() if x.shape is Shape.COUPLED], ids=lambda x: x.name
)
def coupled_loss(request: pytest.FixtureRequest) -> Loss:
    """Each loss that compares the examples with each other."""
    found: Loss = request.param
    return found


@pytest.fixture(params=[x for x in LOSSES.values() if not x.shape.has_values], ids=lambda x: x.name)
def set_loss(request: pytest.FixtureRequest) -> Loss:
    """Each loss of a whole set."""
    found: Loss = request.param
    return found
