"""Metrics of the GPU, told by a library that stands in for NVIDIA's, and none without."""

import ctypes
import math
import shutil
import subprocess
import sys
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from lossd.serving.families import GPU_MEMORY, GPU_MEMORY_USED, GPU_UTILIZATION
from lossd.serving.process.gpu import gpu_at
from lossd.serving.telemetry import Telemetry

PLACE = "0000:17:00.0"
# Two GPUs; the second is a part of one, of which no utilisation is known.
LIBRARY = """
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned int gpu, memory; } rates;
static int began = 0;
int nvmlInitWithFlags(unsigned int flags) { (void)flags; began = 1; return 0; }
const char *nvmlErrorString(int error) { (void)error; return "not supported"; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *place, long *device) {
    if (!began) return 1;
    *device = !strcmp(place, "0000:17:00.0") ? 1 : !strcmp(place, "0000:18:00.0") ? 2 : 0;
    return *device ? 0 : 6;
}
int nvmlDeviceGetMemoryInfo(long device, memory *found) {
    found->total = device << 30; found->free = 1 << 20; found->used = found->total - found->free;
    return 0;
}
int nvmlDeviceGetUtilizationRates(long device, rates *found) {
    found->gpu = 37; found->memory = 5;
    return device == 2 ? 3 : 0;
}
"""


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """NVIDIA's bindings, which find a library of the right name in the process."""
    pynvml = pytest.importorskip("pynvml", reason="a GPU extra brings it: pip install nvidia-ml-py")
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("there is no C compiler for the stand-in of NVIDIA's library")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(LIBRARY)
    name = "libnvidia-ml.so.1"
    made = ["-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name)]
    subprocess.run([compiler, *made, str(folder / "nvml.c")], check=True)
    ctypes.CDLL(str(folder / name))
    return pynvml


def test_a_gpu_tells_its_memory_and_its_utilisation(nvml: Any) -> None:
    del nvml
    gpu = gpu_at(PLACE)

    assert gpu is not None
    assert gpu.memory() == 1 << 30
    assert gpu.memory_used() == (1 << 30) - (1 << 20)
    assert gpu.utilization() == 0.37


def test_what_is_not_known_is_nan(nvml: Any) -> None:
    del nvml
    gpu = gpu_at("0000:18:00.0")

    assert gpu is not None
    assert gpu.memory() == 2 << 30
    assert math.isnan(gpu.utilization())


def test_a_gpu_that_the_library_does_not_know_has_no_metrics(nvml: Any) -> None:
    del nvml

    assert gpu_at("0000:99:00.0") is None


def test_they_are_scraped_where_there_is_a_gpu(nvml: Any) -> None:
    del nvml
    registry = CollectorRegistry()
    telemetry = Telemetry(registry, losses=[])
    families = (GPU_MEMORY_USED, GPU_MEMORY, GPU_UTILIZATION)
    labels = {"device": "a GPU"}

    assert {registry.get_sample_value(f.name, labels) for f in families} == {None}
    gpu = gpu_at(PLACE)
    assert gpu is not None
    telemetry.watch_gpu("a GPU", gpu.memory_used, gpu.memory, gpu.utilization)
    assert [registry.get_sample_value(f.name, labels) for f in families] == [
        (1 << 30) - (1 << 20), 1 << 30, 0.37,
    ]  # fmt: skip


def test_without_the_bindings_there_are_no_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    assert gpu_at(PLACE) is None


def test_where_the_cpu_computes_nothing_is_imported() -> None:
    code = (
        "import sys; from lossd.client import local\n"
        "with local(backend='numpy') as client: client.server_info()\n"
        "assert 'pynvml' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
