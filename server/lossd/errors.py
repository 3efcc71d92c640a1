"""Everything that can go wrong, as exceptions that know nothing of gRPC.

    LossdError
    ├─ InvalidRequest        the caller can fix it
    │  ├─ InvalidParameter   a parameter of the loss
    │  └─ InvalidTensor      an input, the weights, the mask or the cotangent
    ├─ UnknownLoss           this server does not know it
    ├─ UnknownMetric         nor this one
    ├─ UnknownField          nor this one, of a newer contract
    ├─ Unauthenticated       the caller does not prove who it is
    ├─ Forbidden             it does, and may not do this
    ├─ SegmentNotFound       there is no such shared memory
    ├─ SegmentRefused        a file may not be shared
    ├─ TooLarge              it exceeds a limit or the memory there is
    ├─ Overloaded            the server is busy; the same request will do later
    │  ├─ Draining           because it ends
    │  ├─ MemoryFull         because its memory is taken
    │  └─ DeviceFull         because a GPU's memory is taken
    ├─ Abandoned             nobody waits for the answer any more
    │  └─ DeadlinePassed     because its deadline has passed
    ├─ DeviceLost            the GPU does not answer any more
    └─ BackendUnavailable    the server cannot start with this backend

Messages read "<thing> must <rule>, got <value>".  ``field`` is the path of the request's field at
fault and ``details`` repeats the numbers of the message, so that nobody has to parse prose.
"""

from collections.abc import Mapping
from typing import Self


class ServiceError(Exception):
    """The root of the tree; ``reason`` is its UPPER_SNAKE name."""

    reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        reason: str = "",
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.field = field
        self.reason = reason or self.reason
        self.details = {name: str(value) for name, value in (details or {}).items()}

    def below(self, path: str) -> Self:
        """Puts its field below another one, where "" is the request; returns the same error."""
        self.field = ".".join(part for part in (path, self.field) if part)
        return self


class InvalidRequest(ServiceError):  # noqa: N818 - the tree reads better without "Error"
    """The request breaks a rule that the caller can keep."""

    reason = "INVALID_REQUEST"


class InvalidParameter(InvalidRequest):
    """A parameter of the loss is unknown or out of bounds."""

    reason = "INVALID_PARAMETER"


class InvalidTensor(InvalidRequest):
    """A tensor is missing, unknown, or of the wrong type, shape or value."""

    reason = "INVALID_TENSOR"


class UnknownLoss(ServiceError):  # noqa: N818
    """The request names no loss that this server knows."""

    reason = "UNKNOWN_LOSS"


class UnknownMetric(ServiceError):  # noqa: N818
    """The request names no metric that this server knows."""

    reason = "UNKNOWN_METRIC"


class UnknownField(ServiceError):  # noqa: N818
    """The request has a field that this server does not know: a newer one may."""

    reason = "UNKNOWN_FIELD"


class Unauthenticated(ServiceError):  # noqa: N818
    """The caller does not prove that it may come in."""

    reason = "UNAUTHENTICATED"


class Forbidden(ServiceError):  # noqa: N818
    """The caller is known, and was not granted this."""

    reason = "NOT_GRANTED"


class SegmentNotFound(ServiceError):  # noqa: N818
    """No file or segment of shared memory has this name or token."""

    reason = "SEGMENT_NOT_FOUND"


class SegmentRefused(ServiceError):  # noqa: N818
    """A file is not one that may be shared."""

    reason = "SEGMENT_REFUSED"


class TooLarge(ServiceError):  # noqa: N818
    """The request exceeds a limit, or the memory there is."""

    reason = "TOO_LARGE"


class Abandoned(ServiceError):  # noqa: N818
    """The call was cancelled or its deadline has passed."""

    reason = "ABANDONED"


class DeadlinePassed(Abandoned):
    """The call's deadline has passed."""

    reason = "DEADLINE_PASSED"


class Overloaded(ServiceError):  # noqa: N818
    """The server has all the work that it may accept; ``retry_seconds`` says when to try again."""

    reason = "OVERLOADED"
    retry_seconds = 0.1


class Draining(Overloaded):
    """The server ends; another one, or the one that follows, will answer."""

    reason = "DRAINING"


class MemoryFull(Overloaded):
    """The system's memory is taken, for a request that keeps the limits; others give it back."""

    reason = "OUT_OF_MEMORY"
    retry_seconds = 1.0


class DeviceFull(Overloaded):
    """The GPU's memory is taken, by this batch or by others, which give theirs back."""

    reason = "DEVICE_OUT_OF_MEMORY"
    retry_seconds = 1.0


class DeviceLost(ServiceError):  # noqa: N818
    """The GPU does not answer this process any more; a new process may be able to use it."""

    reason = "DEVICE_LOST"


class BackendUnavailable(ServiceError):  # noqa: N818
    """The backend that was asked for cannot be used here."""

    reason = "BACKEND_UNAVAILABLE"
