"""PyTorch's losses on the same card."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from on_gpu.bench import ROUNDS, Bench, Row


def torch(bench: Bench) -> Iterator[Row]:
    """PyTorch's losses with their gradients, eager and compiled."""
    import torch as library  # noqa: PLC0415 - may be absent
    from torch.nn import functional  # noqa: PLC0415

    if not library.cuda.is_available():
        yield {"loss": "none", "mode": "PyTorch here has no CUDA"}
        return
    for name, function, size in (
        ("cross_entropy", functional.cross_entropy, (8192, 32000)),
        ("cross_entropy", functional.cross_entropy, (65536, 1000)),
        ("squared_error", functional.mse_loss, (4096, 16384)),
        ("huber", functional.huber_loss, (4096, 16384)),
        ("binary_cross_entropy", functional.binary_cross_entropy_with_logits, (4096, 16384)),
    ):
        for dtype in (library.float32, library.bfloat16, library.float16):
            x = library.randn(size, device="cuda", dtype=dtype, requires_grad=True)
            t = library.rand(size, device="cuda", dtype=dtype)
            if name == "cross_entropy":
                t = library.randint(size[1], size[:1], device="cuda")
            for mode, call in {"eager": function, "compiled": library.compile(function)}.items():

                def step(call: Any = call, x: Any = x, t: Any = t) -> None:
                    x.grad = None
                    call(x, t).backward()

                took = _torch_ms(library, step)
                moved = 2 * x.nbytes + t.nbytes
                yield {"loss": name, "mode": mode, "type": str(dtype).removeprefix("torch."),
                       "rows": size[0], "columns": size[1], "ms": took,
                       "share of copy": bench.share_of_copy(moved, took)}  # fmt: skip


def _torch_ms(library: Any, step: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(ROUNDS + 3):
        start, end = (library.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[3:])
