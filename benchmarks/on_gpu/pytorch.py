"""PyTorch's losses on the same card."""

import functools
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from on_gpu.bench import ROUNDS, Bench, Row

LONG, SHORT, PLANE, VECTORS = (8192, 32000), (65536, 1000), (4096, 16384), (65536, 256)


@dataclass(frozen=True)
class Case:
    """A function of PyTorch, the sizes of its inputs and how each is drawn."""

    function: str
    sizes: tuple[tuple[int, int], ...]
    kinds: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Its name in a table."""
        return " ".join((self.function, *self.kinds[1:], *self.options))


CASES = (
    Case("cross_entropy", (LONG, SHORT), ("normal", "classes")),
    Case("cross_entropy", (LONG, SHORT), ("normal", "classes"), {"label_smoothing": 0.1}),
    Case("cross_entropy", (LONG, SHORT), ("normal", "shares")),
    Case("nll_loss", (LONG, SHORT), ("logarithms", "classes")),
    Case("kl_div", (LONG, SHORT), ("logarithms", "shares"), {"reduction": "batchmean"}),
    Case("multi_margin_loss", (SHORT,), ("normal", "classes")),
    Case("mse_loss", (PLANE,), ("normal", "normal")),
    Case("l1_loss", (PLANE,), ("normal", "normal")),
    Case("huber_loss", (PLANE,), ("normal", "normal")),
    Case("binary_cross_entropy_with_logits", (PLANE,), ("normal", "answers")),
    Case("binary_cross_entropy", (PLANE,), ("answers", "answers")),
    Case("poisson_nll_loss", (PLANE,), ("normal", "answers")),
    Case("cosine_embedding_loss", (VECTORS,), ("normal", "normal", "signs")),
    Case("triplet_margin_loss", (VECTORS,), ("normal", "normal", "normal")),
)


def torch(bench: Bench) -> Iterator[Row]:
    """PyTorch's losses with the gradient with respect to predictions, eager and compiled."""
    import torch as library  # noqa: PLC0415 - may be absent
    from torch.nn import functional  # noqa: PLC0415

    if not library.cuda.is_available():
        yield {"loss": "none", "mode": "PyTorch here has no CUDA"}
        return
    for case in CASES:
        function = functools.partial(getattr(functional, case.function), **case.options)
        for size in case.sizes:
            for dtype in (library.float32, library.bfloat16)[: 2 if size in {LONG, SHORT} else 1]:
                x, *others = (_drawn(library, kind, size, dtype) for kind in case.kinds)
                x.requires_grad_()
                library.compiler.reset()  # beyond a few sizes and types it would compile no more
                modes = {"eager": function, "compiled": library.compile(function)}
                for mode, call in modes.items():

                    def step(call: Any = call, x: Any = x, others: Any = others) -> None:
                        x.grad = None
                        call(x, *others).backward()

                    took = _torch_ms(library, step)
                    moved = 2 * x.nbytes + sum(other.nbytes for other in others)
                    yield {"loss": str(case), "mode": mode,
                           "type": str(dtype).removeprefix("torch."),
                           "rows": size[0], "columns": size[1], "ms": took,
                           "share of copy": bench.share_of_copy(moved, took)}  # fmt: skip


def _drawn(library: Any, kind: str, size: tuple[int, int], dtype: Any) -> Any:
    """Returns one input of a loss on the device."""
    if kind == "classes":
        return library.randint(size[1], size[:1], device="cuda")
    if kind == "signs":
        return 2 * library.randint(2, size[:1], device="cuda") - 1
    numbers = library.randn(size, device="cuda", dtype=library.float32)
    if kind == "logarithms":
        numbers = numbers.log_softmax(-1)
    if kind == "shares":
        numbers = numbers.softmax(-1)
    if kind == "answers":
        numbers = numbers.sigmoid()
    return numbers.to(dtype)


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
