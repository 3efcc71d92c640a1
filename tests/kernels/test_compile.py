"""NVRTC takes every kernel for every architecture, without a device."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lossd.backends._compiled import COMPILER_OPTIONS
from lossd.kernels import Kernel, Kind
from lossd.losses import LOSSES, Loss
from lossd.losses._declare import CudaText
from tests.kernels import cases

# Turing, Ampere, Hopper and the two Blackwells.  CUDA 13 has no Volta any more.
ARCHITECTURES = (75, 80, 90, 100, 120)
# What CuPy adds on its own; ptxas reports what it used.
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")
REPORT = "--ptxas-options=-v"
REGISTERS_A_MULTIPROCESSOR = 65536

every_type = pytest.mark.parametrize("dtype", cases.STORED, ids=str)
every_text = pytest.mark.parametrize(
    ("loss", "text"),
    list(cases.texts()),
    ids=lambda value: value.name if isinstance(value, Loss) else "",
)


TEXTS_OF_LOGITS = [t for t in LOSSES["cross_entropy"].cuda if "with_logits" in t.text]

pathfinder = pytest.importorskip("cuda.pathfinder")


@pytest.fixture(scope="module")
def nvrtc() -> Any:
    found = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", exc_type=ImportError)
    if pathfinder.find_nvidia_header_directory("cudart") is None:
        pytest.skip("the headers of CUDA's runtime are not installed")
    try:
        found.getVersion()
    except Exception as error:  # noqa: BLE001 - whatever it is, there is nothing to test
        pytest.skip(f"NVRTC cannot be used: {error}")
    return found


def _log(nvrtc: Any, kernel: Kernel, architecture: int) -> str:
    """Compiles a kernel and returns what the compiler said."""
    program = nvrtc.createProgram(kernel.source, "kernel.cu", [], [])
    headers = f"-I{pathfinder.find_nvidia_header_directory('cudart')}"
    options = (f"-arch=sm_{architecture}", headers, *COMPILER_OPTIONS, *CUPY_OPTIONS, REPORT)
    try:
        nvrtc.compileProgram(program, options)
        return str(nvrtc.getProgramLog(program))
    except nvrtc.NVRTCError as error:
        raise AssertionError(f"{error}\n{nvrtc.getProgramLog(program)}") from None
    finally:
        nvrtc.destroyProgram(program)


@every_text
@every_type
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_kernel_compiles_without_warnings_or_spills(
    nvrtc: Any, loss: Loss, text: CudaText, dtype: np.dtype[Any], architecture: int
) -> None:
    kernel = cases.kernel_of(loss, text, dtype)
    log = _log(nvrtc, kernel, architecture)
    assert "warning" not in log
    assert set(re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", log)) == {"0"}
    registers = [int(number) for number in re.findall(r"Used (\d+) registers", log)]
    assert len(registers) == len(kernel.names)
    largest = kernel.launch(1, 1 << 40, parts=1 << 10, labels=1 << 20)
    threads = max(step.threads for step in largest.steps)
    assert max(registers) * threads <= REGISTERS_A_MULTIPROCESSOR


@pytest.mark.parametrize("text", TEXTS_OF_LOGITS, ids=lambda _: "")
@every_type
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_kernel_for_plain_logits_compiles_without_spills(
    nvrtc: Any, text: CudaText, dtype: np.dtype[Any], architecture: int
) -> None:
    log = _log(nvrtc, _kernel_of_logits(text, dtype, are_plain=True), architecture)
    assert set(re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", log)) == {"0"}


@every_type
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_plain_logits_take_fewer_registers(
    nvrtc: Any, dtype: np.dtype[Any], architecture: int
) -> None:
    text, plain = TEXTS_OF_LOGITS[0], (True, False)
    logs = [_log(nvrtc, _kernel_of_logits(text, dtype, are_plain=p), architecture) for p in plain]
    fewer, more = (int(*re.findall(r"Used (\d+) registers", log)) for log in logs)
    assert fewer < more


def _kernel_of_logits(text: CudaText, dtype: np.dtype[Any], *, are_plain: bool) -> Kernel:
    return cases.kernel_of(LOSSES["cross_entropy"], text, dtype, has_plain_logits=are_plain)


@every_text
@every_type
def test_a_kernel_has_no_atomics(loss: Loss, text: CudaText, dtype: np.dtype[Any]) -> None:
    assert "atomic" not in cases.kernel_of(loss, text, dtype).source


_TYPES = {
    Kind.COUNT: "const long long {}",
    Kind.REAL: "const T {}",
    Kind.DOUBLE: "const double {}",
    Kind.ARRAY: r"(?:(?:const )?\w+(?: char| long)?\* ?{}|const Weights {})",
}


@every_text
@every_type
def test_the_typed_signature_is_that_of_the_source(
    loss: Loss, text: CudaText, dtype: np.dtype[Any]
) -> None:
    kernel = cases.kernel_of(loss, text, dtype)
    added = dict(re.findall(r"#define (OTHER_ARRAYS|PARAMETERS) ?(.*)", kernel.source))
    pattern = ", ".join(_TYPES[a.kind].format(a.name, a.name) for a in kernel.signature)
    entries = re.findall(r"_KERNEL\(\s*(const long long rows.*?)\)", kernel.source, re.DOTALL)
    assert len(entries) == len(kernel.names)
    for entry in entries:
        for name, expansion in added.items():
            entry = entry.replace(name, expansion)  # noqa: PLW2901 - step by step
        declared = " ".join(entry.split())
        assert re.fullmatch(pattern, declared.replace(" ,", ","))


@every_text
@every_type
def test_the_compiler_points_into_the_file_of_the_loss(
    nvrtc: Any, loss: Loss, text: CudaText, dtype: np.dtype[Any]
) -> None:
    kernel = cases.kernel_of(loss, text, dtype)
    head, _, tail = kernel.source.rpartition("value = ")
    wrong = replace(kernel, source=f"{head}value = nonsense + {tail}")
    with pytest.raises(AssertionError, match=rf"lossd/losses/{loss.name}\.py\(\d+\): error"):
        _log(nvrtc, wrong, ARCHITECTURES[0])
