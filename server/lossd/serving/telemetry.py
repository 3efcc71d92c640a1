"""All Prometheus metrics of the server; the only file that imports prometheus_client.

Calls add to ``tallies``, which become metrics when they are scraped.

The names ``grpc_server_*`` are those of the gRPC ecosystem's middleware, so that its dashboards and
alerts work as they are.  Every label has a closed set of values, whatever a caller sends.
"""

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from wsgiref.types import WSGIApplication

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from lossd.serving.call import Call
from lossd.serving.tallies import Count, Instance, Spread

# 0.1 ms to 30 s: a small call takes 0.3 ms, a batch of a gigabyte seconds.
_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
    10, 30,
)  # fmt: skip
_BYTES = tuple(1 << power for power in (10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30))
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One Prometheus metric: its name without the suffix that its type adds, and its labels."""

    type: type[Counter] | type[Gauge] | type[Histogram]
    name: str
    description: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def registered(self, registry: CollectorRegistry, lock: threading.Lock) -> Any:
        """Returns a new metric in a registry; but for a gauge, it is added to under a lock."""
        if self.type is Gauge:
            return Gauge(self.name, self.description, self.labels, registry=registry)
        tallied = _Tallied(self, lock)
        registry.register(cast("Any", tallied))
        return tallied

    @property
    def exposed_name(self) -> str:
        """The name in a scrape; counters end in ``_total``."""
        return f"{self.name}_total" if self.type is Counter else self.name


_METHOD = ("grpc_type", "grpc_service", "grpc_method")
STARTED = Family(Counter, "grpc_server_started", "Calls that came in.", _METHOD)
HANDLED = Family(
    Counter, "grpc_server_handled", "Calls that ended, by status.", (*_METHOD, "grpc_code")
)
RECEIVED = Family(Counter, "grpc_server_msg_received", "Messages received.", _METHOD)
SENT = Family(Counter, "grpc_server_msg_sent", "Messages sent.", _METHOD)
HANDLING = Family(
    Histogram,
    "grpc_server_handling_seconds",
    "Time from a call's arrival to its answer.",
    _METHOD,
    _SECONDS,
)
REQUESTS = Family(Counter, "lossd_requests", "Batches by loss and status.", ("loss", "status"))
EXAMPLES = Family(
    Counter, "lossd_examples", "Examples that were kept, by loss and backend.", ("loss", "backend")
)
NONFINITE = Family(
    Counter,
    "lossd_nonfinite",
    "Examples whose loss or gradient was not finite, by loss.",
    ("loss",),
)
DURATION = Family(
    Histogram,
    "lossd_request_duration_seconds",
    "Time of a batch, from its arrival to its answer, by loss.",
    ("loss",),
    _SECONDS,
)
EVALUATIONS = Family(
    Counter, "lossd_evaluations", "Evaluations by metric and status.", ("metric", "status")
)
EVALUATED_EXAMPLES = Family(
    Counter,
    "lossd_evaluated_examples",
    "Examples that were kept in evaluations, by metric.",
    ("metric",),
)
PHASE = Family(
    Histogram,
    "lossd_phase_duration_seconds",
    "Time of each phase of a call: queue, receive, decode, compute, evaluate, encode.",
    ("phase",),
    _SECONDS,
)
LOSS_PHASE = Family(
    Counter,
    "lossd_loss_phase_seconds",
    "Time of the phases of batches, by loss.",
    ("loss", "phase"),
)
LOSS_VALUE = Family(
    Gauge,
    "lossd_loss_value",
    "The loss of the last batch, by loss and training job.",
    ("loss", "training_job"),
)
GRADIENT_NORM = Family(
    Gauge,
    "lossd_gradient_norm",
    "Euclidean norm of the gradients of one of the last batches, by loss and training job.",
    ("loss", "training_job"),
)
TRAINING_BATCHES = Family(
    Counter,
    "lossd_training_batches",
    "Batches that were answered, by loss and training job.",
    ("loss", "training_job"),
)
REQUEST_BYTES = Family(
    Histogram,
    "lossd_request_bytes",
    "Size of requests, by how it travelled.",
    ("transport",),
    _BYTES,
)
RESPONSE_BYTES = Family(
    Histogram,
    "lossd_response_bytes",
    "Size of replies, by how it travelled.",
    ("transport",),
    _BYTES,
)
REJECTED = Family(
    Counter, "lossd_rejected", "Calls that were not answered, by the reason given.", ("reason",)
)
RELOAD_FAILURES = Family(
    Counter,
    "lossd_reload_failures",
    "Changed files that could not be used, by setting; the last good ones stay.",
    ("file",),
)
CERTIFICATE_EXPIRY = Family(
    Gauge,
    "lossd_certificate_expiry_timestamp_seconds",
    "When a certificate of the server expires, in seconds since 1970, by setting.",
    ("certificate",),
)
LOG_LINES_LOST = Family(
    Gauge, "lossd_log_lines_lost", "Lines of the log that nobody read, and that were left out."
)
INFLIGHT_CALLS = Family(Gauge, "lossd_inflight_requests", "Calls in flight.")
INFLIGHT_BYTES = Family(Gauge, "lossd_inflight_bytes", "Bytes of the requests in flight.")
MAX_INFLIGHT_CALLS = Family(Gauge, "lossd_max_inflight_requests", "How many may be in flight.")
MAX_INFLIGHT_BYTES = Family(Gauge, "lossd_max_inflight_bytes", "How many bytes of them may be.")
COMPUTE_THREADS = Family(Gauge, "lossd_compute_threads", "Calls that may compute at a time.")
SEGMENTS = Family(Gauge, "lossd_shared_memory_segments", "Segments of shared memory attached.")
SEGMENT_BYTES = Family(Gauge, "lossd_shared_memory_bytes", "Bytes of these segments.")
MAX_SEGMENTS = Family(
    Gauge, "lossd_max_shared_memory_segments", "How many may be attached; 0 where none is shared."
)
MAX_SEGMENT_BYTES = Family(
    Gauge, "lossd_max_shared_memory_bytes", "How many bytes of them may be attached."
)
DEVICE_MEMORY_BYTES = Family(
    Gauge, "lossd_device_memory_bytes", "Bytes of device memory that clients have."
)
MAX_DEVICE_MEMORY_BYTES = Family(
    Gauge,
    "lossd_max_device_memory_bytes",
    "How many bytes of it clients may have; 0 where none is shared.",
)
READY = Family(Gauge, "lossd_ready", "1 if calls are welcome, 0 while starting and draining.")
FALLBACK = Family(
    Gauge,
    "lossd_backend_fallback",
    "1 if the CPU computes because no GPU could be used, 0 otherwise.",
)
LOSS_FALLBACK = Family(
    Gauge,
    "lossd_loss_fallback",
    "1 for a loss that the CPU computes because the GPU got a worked example of it wrong.",
    ("loss",),
)
GPU_MEMORY_USED = Family(
    Gauge, "lossd_gpu_memory_used_bytes", "Memory of the GPU that is taken, by all.", ("device",)
)
GPU_MEMORY = Family(Gauge, "lossd_gpu_memory_bytes", "Memory of the GPU.", ("device",))
GPU_UTILIZATION = Family(
    Gauge,
    "lossd_gpu_utilization_ratio",
    "Share of the last moments in which the GPU computed, for all.",
    ("device",),
)
BUILD = Family(
    Gauge,
    "lossd_build_info",
    "1; versions and the backend are in the labels.",
    ("backend", "lossd", "python", "grpc", "protobuf", "numpy", "cupy"),
)

FAMILIES = (
    STARTED, HANDLED, RECEIVED, SENT, HANDLING, REQUESTS, EXAMPLES, NONFINITE, DURATION,
    EVALUATIONS, EVALUATED_EXAMPLES, PHASE, LOSS_PHASE, LOSS_VALUE, GRADIENT_NORM,
    TRAINING_BATCHES, REQUEST_BYTES, RESPONSE_BYTES, REJECTED, RELOAD_FAILURES,
    CERTIFICATE_EXPIRY, LOG_LINES_LOST, INFLIGHT_CALLS, MAX_INFLIGHT_CALLS, INFLIGHT_BYTES,
    MAX_INFLIGHT_BYTES, COMPUTE_THREADS, SEGMENTS, MAX_SEGMENTS, SEGMENT_BYTES,
    MAX_SEGMENT_BYTES, DEVICE_MEMORY_BYTES, MAX_DEVICE_MEMORY_BYTES, READY, FALLBACK,
    LOSS_FALLBACK, GPU_MEMORY_USED, GPU_MEMORY, GPU_UTILIZATION, BUILD,
)  # fmt: skip


def read_scrape(text: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Yields name, labels and value of each series in a page of metrics.

    Raises:
        ValueError: if it is no such page.
    """
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


class _Tallied:
    """The series of a counter or a histogram.

    The library's own take five times as long to add to, and a call adds to a good twenty.
    """

    def __init__(self, family: Family, lock: threading.Lock) -> None:
        self._family = family
        self._lock = lock
        self._series: dict[tuple[str, ...], Count | Spread] = {}

    def labels(self, *values: str) -> Count | Spread:
        """Returns a series, which begins at 0."""
        is_counter = self._family.type is Counter
        made = Count() if is_counter else Spread(self._family.buckets)
        return self._series.setdefault(values, made)

    def describe(self) -> Iterator[Metric]:
        """Yields the metric without its series; from it a registry knows their names."""
        yield self._metric()

    def collect(self) -> Iterator[Metric]:
        """Yields the metric as it is now."""
        metric = self._metric()
        with self._lock:
            for labels, series in self._series.items():
                if isinstance(series, Count):
                    metric.add_metric(labels, series.value)
                else:
                    metric.add_metric(labels, [*map(_bucket, series.buckets())], series.total)
        yield metric

    def _metric(self) -> Any:
        family = self._family
        kind: Any = CounterMetricFamily if family.type is Counter else HistogramMetricFamily
        return kind(family.name, family.description, labels=family.labels)


def _bucket(found: tuple[float, int, Instance | None]) -> tuple[Any, ...]:
    bound, count, instance = found
    name = floatToGoString(bound)  # type: ignore[no-untyped-call]
    if instance is None:
        return name, count
    return name, count, Exemplar(dict(instance.labels), instance.value, instance.time)


class Telemetry:
    """The metrics of one server, in a registry of its own."""

    def __init__(
        self, registry: CollectorRegistry, *, losses: Iterable[str], evaluated: Iterable[str] = ()
    ) -> None:
        self._registry = registry
        self._losses = frozenset(losses)
        self._evaluated = frozenset(evaluated)
        self._labels: dict[str, tuple[str, str, str]] = {}  # series by method
        self._lock = threading.Lock()  # for whatever calls add to
        self._metrics = {family: family.registered(registry, self._lock) for family in FAMILIES}
        # Kept, since the library checks labels and locks whenever it is asked for a series.
        self._of = functools.cache(self._labelled)
        ProcessCollector(registry=registry)

    def __getitem__(self, family: Family) -> Any:
        return self._metrics[family]

    def _labelled(self, family: Family, *labels: str) -> Any:
        return self[family].labels(*labels)

    # -------------------------------------------------------------- the server

    def describe(
        self,
        versions: Mapping[str, str],
        backend: str,
        *,
        fallback: bool,
        losses_on_cpu: Iterable[str] = (),
    ) -> None:
        """Records versions and backend."""
        self[BUILD].labels(backend=backend, **versions).set(1)
        self[FALLBACK].set(int(fallback))
        for loss in losses_on_cpu:
            self[LOSS_FALLBACK].labels(loss=loss).set(1)

    def limit(
        self, *, calls: int, request_bytes: int, threads: int, segments: int, segment_bytes: int
    ) -> None:
        """Says what may be, beside what is: who watches a limit need not know the settings."""
        self[MAX_INFLIGHT_CALLS].set(calls)
        self[MAX_INFLIGHT_BYTES].set(request_bytes)
        self[COMPUTE_THREADS].set(threads)
        self[MAX_SEGMENTS].set(segments)
        self[MAX_SEGMENT_BYTES].set(segment_bytes)

    def ready(self, *, ready: bool) -> None:
        """Records whether the server accepts calls."""
        self[READY].set(int(ready))

    def watch_inflight(self, calls: Callable[[], int], request_bytes: Callable[[], int]) -> None:
        """Registers functions that are asked for calls and bytes in flight at each scrape."""
        self[INFLIGHT_CALLS].set_function(calls)
        self[INFLIGHT_BYTES].set_function(request_bytes)

    def watch_log(self, lines_lost: Callable[[], int]) -> None:
        """Reads how many lines were lost whenever it is scraped."""
        self[LOG_LINES_LOST].set_function(lines_lost)

    def watch_gpu(
        self,
        device: str,
        used: Callable[[], float],
        memory: Callable[[], float],
        utilization: Callable[[], float],
    ) -> None:
        """Registers functions that are asked for the GPU's bytes and its load at each scrape."""
        self[GPU_MEMORY_USED].labels(device).set_function(used)
        self[GPU_MEMORY].labels(device).set_function(memory)
        self[GPU_UTILIZATION].labels(device).set_function(utilization)

    def watch_certificate(self, name: str, expiry: Callable[[], float]) -> None:
        """Reads when a certificate expires whenever it is scraped."""
        self[CERTIFICATE_EXPIRY].labels(name).set_function(expiry)

    def watch_files(self, names: Iterable[str]) -> None:
        """Starts the series of files that may fail to be reloaded."""
        with self._lock:
            for name in names:
                self._of(RELOAD_FAILURES, name)

    def reload_failed(self, name: str) -> None:
        """A changed file could not be used."""
        with self._lock:
            self._of(RELOAD_FAILURES, name).add()

    def watch_shared_memory(self, segments: Callable[[], int], size: Callable[[], int]) -> None:
        """Registers functions that are asked for segments and their bytes at each scrape."""
        self[SEGMENTS].set_function(segments)
        self[SEGMENT_BYTES].set_function(size)

    def watch_device_memory(self, size: Callable[[], int], most: int) -> None:
        """Registers a function that is asked for the bytes of clients at each scrape."""
        self[DEVICE_MEMORY_BYTES].set_function(size)
        self[MAX_DEVICE_MEMORY_BYTES].set(most)

    # -------------------------------------------------------------- calls

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
        with self._lock:
            for labels in self._labels.values():
                for family in (STARTED, RECEIVED, SENT, HANDLING):
                    self._of(family, *labels)
                for code in ("OK", "INTERNAL"):
                    self._of(HANDLED, *labels, code)

    def started(self, method: str) -> None:
        """Counts a call that came in."""
        with self._lock:
            self._of(STARTED, *self._labels[method]).add()

    def received(self, method: str, size: int) -> None:
        """Counts a message that was read: a request, or a part of one in a conversation."""
        labels = self._labels[method]
        with self._lock:
            self._of(RECEIVED, *labels).add()
            if labels[0] != _CONVERSATION:
                self._of(REQUEST_BYTES, "grpc").add(size)

    def transferred(self, transport: str, request: int, reply: int) -> None:
        """Counts bytes of tensors that travelled apart from messages, in each direction."""
        with self._lock:
            self._of(REQUEST_BYTES, transport).add(request)
            self._of(RESPONSE_BYTES, transport).add(reply)

    def computed(self, loss: str, backend: str, *, examples: int, nonfinite: int) -> None:
        """Counts a loss that was computed."""
        with self._lock:
            self._of(EXAMPLES, loss, backend).add(examples)
            self._of(NONFINITE, loss).add(nonfinite)

    def trained(self, loss: str, job: str, value: float) -> None:
        """A batch of a training job was answered."""
        self._of(LOSS_VALUE, loss, job).set(value)
        with self._lock:
            self._of(TRAINING_BATCHES, loss, job).add()

    def gradient(self, loss: str, job: str, norm: float) -> None:
        """And the norm of its gradients was looked at."""
        self._of(GRADIENT_NORM, loss, job).set(norm)

    def evaluated(self, metric: str, examples: int) -> None:
        """Counts a metric that was computed."""
        with self._lock:
            self._of(EVALUATED_EXAMPLES, metric).add(examples)

    def sent(self, method: str, size: int) -> None:
        """Counts a reply that is ready, or a part of one in a conversation."""
        labels = self._labels[method]
        with self._lock:
            self._of(SENT, *labels).add()
            if labels[0] != _CONVERSATION:
                self._of(RESPONSE_BYTES, "grpc").add(size)

    def rejected(self, reason: str) -> None:
        """Counts a call that gets an error instead of an answer."""
        with self._lock:
            self._of(REJECTED, reason).add()

    def ended(self, method: str, call: Call, status: str, seconds: float) -> None:
        """Counts a call that has ended, well or not."""
        labels = self._labels[method]
        with self._lock:
            self._of(HANDLED, *labels, status).add()
            self._of(HANDLING, *labels).add(seconds, call.exemplar)
            self._answered(call, status, seconds)

    def answered(self, call: Call, status: str, seconds: float) -> None:
        """Counts an answer; a conversation has several."""
        with self._lock:
            self._answered(call, status, seconds)

    def _answered(self, call: Call, status: str, seconds: float) -> None:
        loss, exemplar = call.labels.get("loss"), call.exemplar
        for phase, duration in call.seconds.items():
            self._of(PHASE, phase).add(duration, exemplar)
            if loss is not None:
                self._of(LOSS_PHASE, loss, phase).add(duration)
        if loss is not None:
            self._of(REQUESTS, loss, status).add()
            self._of(DURATION, loss).add(seconds, exemplar)
        for metric in filter(None, call.labels.get("metrics", "").split(",")):
            self._of(EVALUATIONS, metric, status).add()

    def loss_label(self, name: str) -> str:
        """Returns a label from a closed set, whatever a caller sent."""
        return name if name in self._losses else UNKNOWN

    def metric_labels(self, names: Iterable[str]) -> str:
        """Returns the label of evaluation metrics: each once, separated by commas."""
        known = (name if name in self._evaluated else UNKNOWN for name in names)
        return ",".join(dict.fromkeys(known))

    # -------------------------------------------------------------- the scrape

    def application(self) -> WSGIApplication:
        """Answers every request with a scrape."""
        return prometheus_client.make_wsgi_app(cast("CollectorRegistry", _Undated(self._registry)))


@dataclass(frozen=True, slots=True)
class _Undated:
    """A registry without the times at which series began: nobody asks, and they are as many."""

    registry: Any

    def collect(self) -> Iterator[Metric]:
        for metric in self.registry.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric

    def restricted_registry(self, names: Iterable[str]) -> "_Undated":
        return _Undated(self.registry.restricted_registry(names))


_CONVERSATION = "bidi_stream"  # gRPC's name for it


def _parts(method: str) -> tuple[str, str]:
    """Returns service and name of a method such as ``/lossd.v1.LossService/ComputeLoss``."""
    _, service, name = method.split("/")
    return service, name
