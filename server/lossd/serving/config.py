"""The settings of the server, each declared once.

The fields of ``Config`` define the flags of ``lossd serve``, the environment variables, ``lossd
config``, and the reference table in the documentation.
"""

import dataclasses
import enum
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lossd.backends.choose import BackendChoice
from lossd.errors import LossdError
from lossd.losses import Interval
from lossd.serving import addresses

MEBIBYTE = 1 << 20
ENVIRONMENT_PREFIX = "LOSSD_"


class ConfigError(LossdError):
    """A setting breaks its rule; the message names it, the rule and the value."""

    reason = "CONFIG"


class LogFormat(enum.StrEnum):
    """The format of a line of the log."""

    TEXT = "text"
    JSON = "json"


class LogLevel(enum.StrEnum):
    """The lowest severity that is written; DEBUG has a line for every call."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def usable_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _setting(
    default: Any,
    description: str,
    bounds: Interval | None = None,
    rule: Callable[[Any], object] | None = None,
) -> Any:
    """Returns a field; ``rule`` raises ValueError with the rule that a value breaks."""
    return dataclasses.field(
        default=default, metadata={"description": description, "bounds": bounds, "rule": rule}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one server.

    Raises:
        ConfigError: if one is out of bounds.
    """

    address: str = _setting(
        "127.0.0.1:50051",
        "Where to serve: host:port or unix:/path; port 0 picks a free one.",
        rule=addresses.parse,
    )
    metrics_host: str = _setting(
        "127.0.0.1", "Host of /metrics, /healthz and /readyz.", rule=addresses.parse_host
    )
    metrics_port: int = _setting(
        9464, "Port of /metrics, /healthz and /readyz; 0 picks a free one.", Interval(0, 65535)
    )
    backend: BackendChoice = _setting(
        BackendChoice.AUTO, "Where to compute; auto takes a GPU if there is a usable one."
    )
    check_device: bool = _setting(
        True,  # noqa: FBT003 - a default
        "Whether a GPU is first tried on the worked examples of every loss; "
        "NumPy computes those that it gets wrong.",
    )
    threads: int = _setting(0, "Threads that compute; 0 for one a core.", Interval(0, 1024))
    max_calls: int = _setting(
        64, "Calls in flight; one more is refused and told to come again.", Interval(1, 4096)
    )
    max_inflight_bytes: int = _setting(
        2048 * MEBIBYTE,
        "Bytes of all requests in flight; what exceeds them is refused and told to come again.",
        Interval(1, 1 << 50),
    )
    max_message_bytes: int = _setting(
        512 * MEBIBYTE, "Bytes of one request.", Interval(1, (1 << 31) - 1)
    )
    max_tensors: int = _setting(64, "Tensors of one request.", Interval(1, 1024))
    max_axes: int = _setting(8, "Axes of one tensor.", Interval(1, 8))
    max_call_seconds: float = _setting(
        300.0,
        "How long a call may take until its reply has been read; then it is cancelled.",
        Interval(0, 86400, low_open=True),
    )
    shm_dir: str = _setting(
        "",
        "Directory in memory (tmpfs) whose files clients on this host may share with the server; "
        "empty for none.",
    )
    max_shm_segments: int = _setting(
        256, "Segments of shared memory at the same time.", Interval(1, 4096)
    )
    max_shm_bytes: int = _setting(
        4096 * MEBIBYTE, "Bytes of all segments of shared memory.", Interval(1, 1 << 50)
    )
    networks: str = _setting(
        "", "Directory of the networks that losses of images look through; empty for none."
    )
    max_network_bytes: int = _setting(
        2048 * MEBIBYTE,
        "Bytes that one image may take inside a network, in each thread that computes.",
        Interval(1, 1 << 50),
    )
    drain_delay_seconds: float = _setting(
        0.0,
        "After SIGTERM, how long to go on accepting calls while saying not ready.",
        Interval(0, 3600),
    )
    drain_seconds: float = _setting(
        25.0, "After that, how long accepted calls may take to finish.", Interval(0, 3600)
    )
    reflection: bool = _setting(True, "Whether to answer gRPC server reflection.")  # noqa: FBT003 - a default
    log_format: LogFormat = _setting(LogFormat.TEXT, "Lines for people, or JSON for machines.")
    log_level: LogLevel = _setting(
        LogLevel.INFO, "The least severity that is logged; debug has a line for every call."
    )

    def __post_init__(self) -> None:
        for setting in settings():
            setting.check(getattr(self, setting.name))

    @property
    def compute_threads(self) -> int:
        """The number of threads that compute."""
        return self.threads or usable_cores()


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of ``Config``, with all that flags, variables and tables need."""

    name: str
    type: type
    default: Any
    description: str
    bounds: Interval | None
    rule: Callable[[Any], object] | None = None

    @property
    def flag(self) -> str:
        """``--max-calls`` for ``max_calls``."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """``LOSSD_MAX_CALLS`` for ``max_calls``."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    def check(self, value: Any) -> None:
        """Raises ConfigError if the value is out of bounds or breaks its rule."""
        if self.bounds is not None and value not in self.bounds:
            raise ConfigError(f"{self.name} must be in {self.bounds}, got {value}", field=self.name)
        try:
            if self.rule is not None:
                self.rule(value)
        except ValueError as error:
            shown = value or "none"
            raise ConfigError(f"{self.name} {error}, got {shown}", field=self.name) from error


def settings() -> tuple[Setting, ...]:
    """Returns every setting, in the order of the fields."""
    types = typing.get_type_hints(Config)
    return tuple(
        Setting(f.name, types[f.name], f.default, **f.metadata) for f in dataclasses.fields(Config)
    )


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Returns variables that look like settings but are none: a misspelt limit would not limit."""
    known = {setting.variable for setting in settings()}
    return sorted(
        name for name in environment if name.startswith(ENVIRONMENT_PREFIX) and name not in known
    )
