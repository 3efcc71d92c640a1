"""Counts what the server does, for Prometheus.

Calls leave ``notes`` of what they add to ``tallies``, which ``collectors`` read when a page of
metrics is asked for.
"""

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast
from wsgiref.types import WSGIApplication

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector

from lossd.serving import families
from lossd.serving.call import GRPC, Call
from lossd.serving.collectors import Tallied
from lossd.serving.exposition import scrape_page
from lossd.serving.families import Family
from lossd.serving.notes import Notes

UNKNOWN = "unknown"

_CONVERSATION = "bidi_stream"  # gRPC's name for it

Exemplary = Mapping[str, str] | None  # the labels of an exemplar


class Telemetry:
    """The metrics of one server, in a registry of its own."""

    def __init__(
        self, registry: CollectorRegistry, *, losses: Iterable[str], evaluated: Iterable[str] = ()
    ) -> None:
        self._registry = registry
        self._losses = frozenset(losses)
        self._evaluated = frozenset(evaluated)
        self._labels: dict[str, tuple[str, str, str]] = {}  # series by method
        self._notes = Notes()
        self._metrics = {family: self._registered(family, registry) for family in families.FAMILIES}
        self._last: dict[tuple[str, str], float] = {}  # value of a curve, by loss and job
        # Kept, since the library checks labels and locks whenever it is asked for a series.
        self._of = functools.cache(self._labelled)
        ProcessCollector(registry=registry)

    def _registered(self, family: Family, registry: CollectorRegistry) -> Any:
        """Returns a new metric in a registry; but for a gauge, it is added to under the lock."""
        if family.type is Gauge:
            return Gauge(family.name, family.description, family.labels, registry=registry)
        tallied = Tallied(family, self._notes.lock, self._notes.settle)
        registry.register(cast("Any", tallied))
        return tallied

    def __getitem__(self, family: Family) -> Any:
        return self._metrics[family]

    def _labelled(self, family: Family, *labels: str) -> Any:
        return self[family].labels(*labels)

    def describe(
        self,
        versions: Mapping[str, str],
        backend: str,
        *,
        fallback: bool,
        losses_on_cpu: Iterable[str] = (),
    ) -> None:
        """Records versions and backend."""
        self[families.BUILD].labels(backend=backend, **versions).set(1)
        self[families.FALLBACK].set(int(fallback))
        for loss in losses_on_cpu:
            self[families.LOSS_FALLBACK].labels(loss=loss).set(1)

    def limit(
        self, *, calls: int, request_bytes: int, threads: int, segments: int, segment_bytes: int
    ) -> None:
        """Says what may be, beside what is: whoever watches a limit need not know the settings."""
        self[families.MAX_INFLIGHT_CALLS].set(calls)
        self[families.MAX_INFLIGHT_BYTES].set(request_bytes)
        self[families.COMPUTE_THREADS].set(threads)
        self[families.MAX_SEGMENTS].set(segments)
        self[families.MAX_SEGMENT_BYTES].set(segment_bytes)

    def ready(self, *, ready: bool) -> None:
        """Records whether the server accepts calls."""
        self[families.READY].set(int(ready))

    def watch_inflight(self, calls: Callable[[], int], request_bytes: Callable[[], int]) -> None:
        """Registers functions that are asked for calls and bytes in flight at each scrape."""
        self[families.INFLIGHT_CALLS].set_function(calls)
        self[families.INFLIGHT_BYTES].set_function(request_bytes)

    def watch_log(self, lines_lost: Callable[[], int]) -> None:
        """Reads how many lines were lost whenever it is scraped."""
        self[families.LOG_LINES_LOST].set_function(lines_lost)

    def watch_gpu(
        self,
        device: str,
        used: Callable[[], float],
        memory: Callable[[], float],
        utilization: Callable[[], float],
    ) -> None:
        """Registers functions that are asked for the GPU's bytes and its load at each scrape."""
        self[families.GPU_MEMORY_USED].labels(device).set_function(used)
        self[families.GPU_MEMORY].labels(device).set_function(memory)
        self[families.GPU_UTILIZATION].labels(device).set_function(utilization)

    def watch_certificate(self, name: str, expiry: Callable[[], float]) -> None:
        """Reads when a certificate expires whenever it is scraped."""
        self[families.CERTIFICATE_EXPIRY].labels(name).set_function(expiry)

    def watch_files(self, unusable: Mapping[str, Callable[[], bool]]) -> None:
        """Starts the series of files, by setting, which are asked whether they cannot be used."""
        with self._notes.lock:
            for name in unusable:
                self._of(families.RELOAD_FAILURES, name)
        for name, is_unusable in unusable.items():
            self[families.FILE_UNUSABLE].labels(name).set_function(is_unusable)

    def reload_failed(self, name: str) -> None:
        """Counts a changed file that could not be used."""
        with self._notes.lock:
            self._of(families.RELOAD_FAILURES, name).add()

    def watch_shared_memory(self, segments: Callable[[], int], size: Callable[[], int]) -> None:
        """Registers functions that are asked for segments and their bytes at each scrape."""
        self[families.SEGMENTS].set_function(segments)
        self[families.SEGMENT_BYTES].set_function(size)

    def watch_device_memory(self, size: Callable[[], int], most: int) -> None:
        """Registers a function that is asked for the bytes of clients at each scrape."""
        self[families.DEVICE_MEMORY_BYTES].set_function(size)
        self[families.MAX_DEVICE_MEMORY_BYTES].set(most)

    def expect(
        self,
        methods: Iterable[str],
        streams: Iterable[str] = (),
        conversations: Iterable[str] = (),
    ) -> None:
        """Starts the series of methods, so that rates exist before a first call or fault."""
        self._labels |= {method: ("unary", *_parts(method)) for method in methods}
        self._labels |= {method: ("client_stream", *_parts(method)) for method in streams}
        self._labels |= {method: (_CONVERSATION, *_parts(method)) for method in conversations}
        with self._notes.lock:
            for labels in self._labels.values():
                for family in (
                    families.STARTED,
                    families.RECEIVED,
                    families.SENT,
                    families.HANDLING,
                ):
                    self._of(family, *labels)
                for code in ("OK", "INTERNAL"):
                    self._of(families.HANDLED, *labels, code)

    def started(self, method: str) -> None:
        """Counts a call that came in."""
        self._notes.add(self._count_started, method)

    def received(self, method: str, size: int) -> None:
        """Counts a message that was read: a request, or a part of one in a conversation."""
        self._notes.add(
            self._count_message, families.RECEIVED, families.REQUEST_BYTES, method, size
        )

    def sent(self, method: str, size: int) -> None:
        """Counts a reply that is ready, or a part of one in a conversation."""
        self._notes.add(self._count_message, families.SENT, families.RESPONSE_BYTES, method, size)

    def transferred(self, transport: str, request: int, reply: int) -> None:
        """Counts bytes of tensors that travelled apart from messages, in each direction."""
        self._notes.add(self._add, families.REQUEST_BYTES, transport, request)
        self._notes.add(self._add, families.RESPONSE_BYTES, transport, reply)

    def computed(self, loss: str, backend: str, *, examples: int, nonfinite: int) -> None:
        """Counts a loss that was computed."""
        self._notes.add(self._count_computed, loss, backend, examples, nonfinite)

    def trained(self, loss: str, job: str, value: float) -> None:
        """Notes the loss of a batch of a training job."""
        curve = (loss, job)
        is_known = curve in self._last
        self._last[curve] = value
        if not is_known:  # the library asks at each scrape, since to set it takes four calls
            read = functools.partial(self._last.__getitem__, curve)
            self._of(families.LOSS_VALUE, loss, job).set_function(read)
        self._notes.add(self._count_trained, loss, job)

    def gradient(self, loss: str, job: str, norm: float) -> None:
        """Notes the norm of the gradients of a batch of a training job."""
        self._of(families.GRADIENT_NORM, loss, job).set(norm)

    def evaluated(self, metric: str, examples: int) -> None:
        """Counts a metric that was computed."""
        self._notes.add(self._add, families.EVALUATED_EXAMPLES, metric, examples)

    def rejected(self, reason: str) -> None:
        """Counts a call that gets an error instead of an answer."""
        self._notes.add(self._add, families.REJECTED, reason, 1)

    def ended(self, method: str, call: Call, status: str, seconds: float) -> None:
        """Counts a call that has ended, well or not."""
        self._notes.add(self._count_ended, method, status, seconds, call.exemplar)
        of_batch = seconds if call.began is None else time.perf_counter() - call.began
        self.answered(call, status, of_batch)

    def answered(self, call: Call, status: str, seconds: float) -> None:
        """Counts an answer; a conversation has several."""
        labels, phases = dict(call.labels), dict(call.seconds)
        self._notes.add(self._count_answered, labels, phases, status, seconds, call.exemplar)
        if call.exemplar is not None:  # which is of this moment
            self._notes.settle()

    def _add(self, family: Family, label: str, amount: float) -> None:
        self._of(family, label).add(amount)

    def _count_started(self, method: str) -> None:
        self._of(families.STARTED, *self._labels[method]).add()

    def _count_message(self, messages: Family, sizes: Family, method: str, size: int) -> None:
        labels = self._labels[method]
        self._of(messages, *labels).add()
        if labels[0] != _CONVERSATION:
            self._of(sizes, GRPC).add(size)

    def _count_computed(self, loss: str, backend: str, examples: int, nonfinite: int) -> None:
        self._of(families.EXAMPLES, loss, backend).add(examples)
        self._of(families.NONFINITE, loss).add(nonfinite)

    def _count_trained(self, loss: str, job: str) -> None:
        self._of(families.TRAINING_BATCHES, loss, job).add()

    def _count_ended(self, method: str, status: str, seconds: float, exemplar: Exemplary) -> None:
        labels = self._labels[method]
        self._of(families.HANDLED, *labels, status).add()
        self._of(families.HANDLING, *labels).add(seconds, exemplar)

    def _count_answered(
        self,
        labels: Mapping[str, str],
        phases: Mapping[str, float],
        status: str,
        seconds: float,
        exemplar: Exemplary,
    ) -> None:
        loss = labels.get("loss")
        for phase, duration in phases.items():
            self._of(families.PHASE, phase).add(duration, exemplar)
            if loss is not None:
                self._of(families.LOSS_PHASE, loss, phase).add(duration)
        if loss is not None:
            self._of(families.REQUESTS, loss, status).add()
            self._of(families.DURATION, loss).add(seconds, exemplar)
        for metric in filter(None, labels.get("metrics", "").split(",")):
            self._of(families.EVALUATIONS, metric, status).add()

    def loss_label(self, name: str) -> str:
        """Returns a label from a closed set, whatever a caller sent."""
        return name if name in self._losses else UNKNOWN

    def metric_labels(self, names: Iterable[str]) -> str:
        """Returns the label of evaluation metrics: each once, separated by commas."""
        known = (name if name in self._evaluated else UNKNOWN for name in names)
        return ",".join(dict.fromkeys(known))

    def application(self) -> WSGIApplication:
        """Answers every request with a scrape."""
        return scrape_page(self._registry)


def _parts(method: str) -> tuple[str, str]:
    """Returns service and name of a method such as ``/lossd.v1.LossService/ComputeLoss``."""
    _, service, name = method.split("/")
    return service, name
