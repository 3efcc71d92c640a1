"""All Prometheus metrics of the server, as documents and alerts know them.

The names ``grpc_server_*`` are those of the gRPC ecosystem's middleware, so that its dashboards and
alerts work as they are.  Every label has a closed set of values, whatever a caller sends.
"""

from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

# 0.1 ms to 30 s: a small call takes 0.3 ms, a batch of a gigabyte seconds.
_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
    10, 30,
)  # fmt: skip
_BYTES = tuple(1 << power for power in (10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30))


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One Prometheus metric: its name without the suffix that its type adds, and its labels."""

    type: type[Counter] | type[Gauge] | type[Histogram]
    name: str
    description: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

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
FILE_UNUSABLE = Family(
    Gauge,
    "lossd_file_unusable",
    "1 while what a changed file holds cannot be used, by setting; the last good one stays.",
    ("file",),
)
CERTIFICATE_EXPIRY = Family(
    Gauge,
    "lossd_certificate_expiry_timestamp_seconds",
    "When a certificate of the server expires, in seconds since 1970, by setting.",
    ("certificate",),
)
LOG_LINES_LOST = Family(
    Gauge,
    "lossd_log_lines_lost",
    "Lines of the log that were left out: nobody read them, or the disk was full.",
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
    TRAINING_BATCHES, REQUEST_BYTES, RESPONSE_BYTES, REJECTED, RELOAD_FAILURES, FILE_UNUSABLE,
    CERTIFICATE_EXPIRY, LOG_LINES_LOST, INFLIGHT_CALLS, MAX_INFLIGHT_CALLS, INFLIGHT_BYTES,
    MAX_INFLIGHT_BYTES, COMPUTE_THREADS, SEGMENTS, MAX_SEGMENTS, SEGMENT_BYTES,
    MAX_SEGMENT_BYTES, DEVICE_MEMORY_BYTES, MAX_DEVICE_MEMORY_BYTES, READY, FALLBACK,
    LOSS_FALLBACK, GPU_MEMORY_USED, GPU_MEMORY, GPU_UTILIZATION, BUILD,
)  # fmt: skip
