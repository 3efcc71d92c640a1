"""How the kernels for the CPU are built and found, and what happens without them."""

import os
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lossd.backends._host import NoKernels, host_kernels
from lossd.backends.numpy import NumpyBackend
from lossd.kernels.host import Library, NoLibraryError
from lossd.kernels.host._build import BuildError, build, compiler
from lossd.kernels.host._library import LIBRARY

ROOT = Path(__file__).resolve().parents[3]
# Sizes around groups and blocks, in memory that ends where the numbers do.
DRIVER = """
import sys
import numpy as np
from pathlib import Path
from lossd.backends._host import HostKernels
from lossd.backends.numpy import NumpyBackend
from lossd.engine import Engine
from lossd.kernels.host import Library
from lossd.losses import LOSSES, Shape
from tests import sampling
from tests.kernels import cases, classes, vectors
from tests.kernels.host.test_kernels import run
library = Library(Path(sys.argv[1]), sys.argv[2])
engine = Engine(NumpyBackend(2, HostKernels(library)))
with np.errstate(all="ignore"):
    for variant in cases.VARIANTS:
        for length in (1, 3, 16, 17, 511, 513, 1030):
            for misaligned in (False, True):
                case = cases.make_case(variant, cases.FLOAT32, length, misaligned=misaligned)
                run(library, case)
                run(library, case, stored=np.float16)
                run(library, case, block=2, streams=True)
    for loss, text in vectors.TEXTS:
        for length in (1, 3, 16, 17, 511, 513, 1030):
            for dtype in (np.float32, np.float16):
                batch = vectors.draw(loss, text, length, np.dtype(dtype))
                batch.on_host(library)
                batch.shifted().on_host(library, block=2, streams=True)
    for loss, text in classes.TEXTS:
        for size in (*classes.SIZES, (5, 513)):
            for dtype in (np.float32, np.float16):
                batch = classes.draw(loss, text, size, np.dtype(dtype), smooth=0.0)
                batch.on_host(library)
                batch.turned().on_host(library, block=2, streams=True)
    shapes = (Shape.REGIONWISE, Shape.SEQUENCE, Shape.TOKENS, Shape.OPPOSED, Shape.SETWISE)
    for loss in (loss for loss in LOSSES.values() if loss.shape in shapes):
        for drawn in sampling.cases(loss):
            case = drawn.astype(np.float32)
            engine.run(case.job(gradients=case.differentiable))
"""


# A compiler that only joins what it is given, and says so in a file; its version is a variable's.
COMPILER = """
import os, sys
from pathlib import Path
arguments = sys.argv[1:]
if "--version" in arguments:
    sys.exit(print(os.environ.get("FAKE_VERSION", "1.0")))
with Path(os.environ["FAKE_LOG"]).open("a") as log:
    log.write("run ")
if "FAKE_STATUS" in os.environ:
    sys.exit(int(os.environ["FAKE_STATUS"]))
made = Path(arguments[arguments.index("-o") + 1])
given = [x for x in arguments if x.endswith((".cpp", ".o")) and Path(x) != made]
made.write_bytes(b"".join(Path(x).read_bytes() for x in given))
"""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with a line for each run of a compiler that takes no time."""
    script, log = tmp_path / "compiler.py", tmp_path / "runs"
    script.write_text(COMPILER)
    log.write_text("")
    monkeypatch.setenv("CXX", f"{sys.executable} {script}")
    monkeypatch.setenv("FAKE_LOG", str(log))
    return log


def needs_a_compiler() -> None:
    try:
        compiler()
    except BuildError as error:
        pytest.skip(str(error))


def test_the_kernels_of_this_environment_are_those_of_the_texts() -> None:
    needs_a_compiler()
    assert Library().variants


def test_a_library_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(NoLibraryError, match="no compiled library beside the package: python"):
        Library(tmp_path / "none.so")


def test_a_file_that_is_no_library_is_not_opened(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    with pytest.raises(NoLibraryError, match="cannot be opened"):
        Library(broken)


def test_kernels_of_other_texts_are_not_used(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    del library
    monkeypatch.setattr("lossd.kernels.host._library.digest", lambda: "another")
    with pytest.raises(NoLibraryError, match="compiled from other texts"):
        Library()


def test_without_kernels_numpy_computes_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Library:
        raise NoLibraryError("for some reason")

    monkeypatch.setattr("lossd.backends._host.Library", missing)
    kernels = host_kernels()
    assert kernels == NoKernels("for some reason")
    backend = NumpyBackend(2, kernels)
    assert backend.device.endswith("2 threads, NumPy alone: for some reason")
    backend.close()


def test_a_machine_that_is_not_known_is_refused(tmp_path: Path) -> None:
    needs_a_compiler()
    with pytest.raises(BuildError, match="machine must be among x86_64, aarch64, got riscv64"):
        build(tmp_path / "x.so", machine="riscv64")


def test_a_build_without_a_compiler_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BuildError, match=r"a C\+\+ compiler must be there"):
        build(tmp_path / "x.so")


def test_the_same_texts_compiler_and_flags_compile_nothing_again(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "made.so"

    def compiled(**choices: Any) -> bool:
        before = runs.read_text()
        build(library, **{"machine": "x86_64", **choices})
        return runs.read_text() != before

    assert compiled()
    assert not compiled()
    assert compiled(flags=["-O1"])
    assert compiled()
    assert compiled(machine="aarch64")
    assert compiled()
    monkeypatch.setenv("FAKE_VERSION", "2.0")
    assert compiled()
    monkeypatch.setattr("lossd.kernels.host._build.library_source", lambda _: "another text")
    assert compiled()
    assert not compiled()
    library.write_bytes(b"another one's")
    assert compiled()


def test_a_library_stays_where_another_cannot_be_made(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "made.so"
    library.write_bytes(b"an editable install's")
    monkeypatch.setenv("FAKE_STATUS", "1")
    with pytest.raises(BuildError, match="must succeed"):
        build(library, machine="x86_64")
    assert runs.read_text()
    assert library.read_bytes() == b"an editable install's"


class Hook:
    """The part of hatchling that the hook uses."""

    def __class_getitem__(cls, _: object) -> type:
        return cls

    def __init__(self, root: Path) -> None:
        self.root, self.app = str(root), self
        self.warned: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, runs: Path) -> Any:
    """Returns what is built in a folder, as when it is installed from there."""
    del runs
    name = "hatchling.builders.hooks.plugin.interface"
    interface = ModuleType(name)
    interface.BuildHookInterface = Hook  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, interface)
    spec = util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("LOSSD_HOST_MACHINE", "x86_64")

    def installed(root: Path) -> tuple[dict[str, Any], list[str]]:
        hook = module.HostKernelsHook(root)
        data: dict[str, Any] = {"artifacts": []}
        hook.initialize("standard", data)
        return data, hook.warned

    return installed


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are for Linux")
def test_installing_leaves_the_library_of_an_editable_install(
    tmp_path: Path, runs: Path, install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "clone"
    shutil.copytree(
        ROOT / "server", root / "server", ignore=shutil.ignore_patterns("_compiled", "__pycache__")
    )
    library = root / LIBRARY.relative_to(ROOT)
    where = str(library.relative_to(root))
    tag = "py3-none-linux_x86_64"
    wheel: Any = {"artifacts": [where], "pure_python": False, "tag": tag}, []

    assert install(root) == wheel
    made, ran = library.stat().st_ino, runs.read_text()
    assert install(root) == wheel
    assert (library.stat().st_ino, runs.read_text()) == (made, ran)

    monkeypatch.setenv("FAKE_VERSION", "2.0")
    monkeypatch.setenv("FAKE_STATUS", "1")
    data, warned = install(root)
    assert data == {"artifacts": []}
    assert "No kernels for the CPU, NumPy computes" in warned[0]
    monkeypatch.setenv("LOSSD_HOST_KERNELS", "require")
    with pytest.raises(RuntimeError, match="the kernels for the CPU must compile"):
        install(root)
    monkeypatch.setenv("LOSSD_HOST_KERNELS", "none")
    assert install(root) == ({"artifacts": []}, [])
    assert library.stat().st_ino == made


def test_a_misspelt_wish_for_kernels_is_refused(
    tmp_path: Path, install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOSSD_HOST_KERNELS", "required")
    monkeypatch.setenv("CXX", "false")  # if it went on, it would write where tests are run

    with pytest.raises(ValueError, match=r"^LOSSD_HOST_KERNELS must be none or require, got req"):
        install(tmp_path)


def test_the_library_needs_no_more_than_the_c_library(library: Library) -> None:
    """Of libm no function that rounds: those for exponents, which are the same everywhere."""
    del library
    if shutil.which("objdump") is None:
        pytest.skip("there is no objdump")
    command = ["objdump", "-p", str(LIBRARY)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    needed = {line.split()[1] for line in done.stdout.splitlines() if "NEEDED" in line}
    assert needed <= {"libc.so.6", "libm.so.6"}
    symbols = subprocess.run(
        ["objdump", "-T", str(LIBRARY)], check=True, capture_output=True, text=True
    ).stdout
    rounding = {"exp", "expf", "log", "logf", "log1p", "log1pf", "pow", "powf", "sqrt", "tanh"}
    assert rounding.isdisjoint(symbols.split())


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are for Linux")
def test_sanitizers_find_nothing(tmp_path: Path, *, whole: bool) -> None:
    if not whole:
        pytest.skip("it takes a minute: run with --whole")
    needs_a_compiler()
    command = [*compiler(), "-print-file-name=libasan.so"]
    asan = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if not Path(asan).is_absolute():
        pytest.skip("the compiler has no address sanitizer")
    made = tmp_path / "sanitized.so"
    flags = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    build(made, flags=flags, variants=("v3", "v0"))
    environment = {
        **os.environ,
        "LD_PRELOAD": asan,
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
        "PYTHONMALLOC": "malloc",  # so that arrays end where their numbers do
        "PYTHONPATH": str(ROOT),
    }
    variant = "v3" if os.uname().machine == "x86_64" else "v0"
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(made), variant],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-4000:]
