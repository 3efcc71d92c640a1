"""The settings of the server, each declared once.

The fields of ``Config`` define the flags of ``lossd serve``, the environment variables, ``lossd
config``, and the reference table in the documentation.
"""

import dataclasses
import enum
import functools
import os
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lossd import forms, routing
from lossd.backends.choose import BackendChoice
from lossd.crew import usable_cores
from lossd.errors import ServiceError
from lossd.losses import Interval
from lossd.naming import guess
from lossd.schema import exactly
from lossd.serving import addresses

MEBIBYTE = 1 << 20
ENVIRONMENT_PREFIX = "LOSSD_"
# Variables that the package is built with (hatch_build.py), which may still be set where it serves.
BUILD_VARIABLES = {"LOSSD_HOST_KERNELS", "LOSSD_HOST_MACHINE", "LOSSD_WHEEL_TAG"}

SLOWEST = 1e-4  # calls a second that may be a limit: one in three hours
_SHORTEST = 0.01  # seconds that may be a limit: a watchdog looks ten times in them

_JOB = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MOST_JOBS = 100  # each has two gauges and a counter for every loss that it uses


class ConfigError(ServiceError):
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


def job_names(text: str) -> frozenset[str]:
    """Returns the names of a list with commas between.

    Raises:
        ValueError: with what they must be.
    """
    names = [name.strip() for name in text.split(",")] if text.strip() else []
    if len(names) > _MOST_JOBS or not all(map(_JOB.fullmatch, names)):
        raise ValueError(
            f"must be at most {_MOST_JOBS} names of letters, digits, '.', '_' and '-' with commas "
            "between"
        )
    return frozenset(names)


def _zero_or_from(low: float) -> Callable[[float], None]:
    """Returns the rule of a number that is 0 for none."""

    def check(number: float) -> None:
        if 0 < number < low:
            raise ValueError(f"must be 0 or at least {exactly(low)}")

    return check


# Settings that mean nothing without another.
TOGETHER = (
    ("tls_cert", "tls_key"),
    ("tls_key", "tls_cert"),
    ("tls_client_ca", "tls_cert"),
    ("metrics_tls_cert", "metrics_tls_key"),
    ("metrics_tls_key", "metrics_tls_cert"),
    ("jwt_issuer", "jwks"),
    ("jwt_audience", "jwks"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one server; members of enums go by their values too, as ``"numpy"``.

    Raises:
        ConfigError: if one has another type, is out of bounds, or lacks what it goes with.
    """

    address: str = _setting(
        "127.0.0.1:50051",
        "Where to serve: host:port or unix:/path; port 0 picks a free one.",
        rule=addresses.parse,
    )
    socket_mode: str = _setting(
        "",
        "Who may connect to a unix:/path, in octal, such as 660; empty for what the umask leaves.",
        rule=addresses.parse_mode,
    )
    metrics_host: str = _setting(
        "127.0.0.1", "Host of /metrics, /healthz and /readyz.", rule=addresses.parse_host
    )
    metrics_port: int = _setting(
        9464, "Port of /metrics, /healthz and /readyz; 0 picks a free one.", Interval(0, 65535)
    )
    tls_cert: str = _setting(
        "", "Certificate to serve with, and its chain, in PEM; read again whenever it changes."
    )
    tls_key: str = _setting("", "Key of tls_cert, in PEM.")
    tls_client_ca: str = _setting(
        "", "Authorities of clients in PEM; whoever has no certificate of theirs cannot connect."
    )
    metrics_tls_cert: str = _setting(
        "", "Certificate for /metrics, /healthz and /readyz; it may be that of tls_cert."
    )
    metrics_tls_key: str = _setting("", "Key of metrics_tls_cert, in PEM.")
    token_file: str = _setting(
        "", "File with one bearer token on each line; whoever has none of them is refused."
    )
    access: str = _setting(
        "", "TOML file that says who may call what and how much; see docs/operating.md."
    )
    jwks: str = _setting("", "JWKS file of the keys that sign JSON web tokens of callers.")
    jwt_issuer: str = _setting("", "Issuer that JSON web tokens must have; empty for any.")
    jwt_audience: str = _setting("", "Audience that JSON web tokens must have; empty for any.")
    backend: BackendChoice = _setting(
        BackendChoice.AUTO, "Where to compute; auto takes a GPU if there is a usable one."
    )
    check_device: bool = _setting(
        True,  # noqa: FBT003 - a default
        "Whether a GPU is first tried on the worked examples of every loss; "
        "NumPy computes those that it gets wrong.",
    )
    routes: str = _setting(
        "",
        "Where backend auto computes losses of a shape, as rowwise=cupy,pointwise=numpy; those "
        "not named go where they are done sooner, by rates that are measured at the start.",
        rule=routing.parsed,
    )
    threads: int = _setting(0, "Threads that compute; 0 for one on each core.", Interval(0, 1024))
    max_calls: int = _setting(
        64, "Calls in flight; one more is refused and told to come again.", Interval(1, 4096)
    )
    max_inflight_bytes: int = _setting(
        2048 * MEBIBYTE,
        "Bytes of all requests in flight; what exceeds them is refused and told to come again.",
        Interval(1, 1 << 50),
    )
    max_message_bytes: int = _setting(
        512 * MEBIBYTE, "Bytes of one request.", Interval(128, (1 << 31) - 1)
    )
    max_tensors: int = _setting(64, "Tensors of one request.", Interval(1, 1024))
    max_axes: int = _setting(8, "Axes of one tensor.", Interval(1, 8))
    max_call_seconds: float = _setting(
        300.0,
        "How long a call may take until its reply has been read; then it is cancelled.",
        Interval(_SHORTEST, 86400),
    )
    first_message_seconds: float = _setting(
        30.0,
        "How long a call may take until its first message is there; then it is cancelled.",
        Interval(_SHORTEST, 86400),
    )
    idle_seconds: float = _setting(
        300.0,
        "How long a stream may take until its next message is there; then it is cancelled.",
        Interval(_SHORTEST, 86400),
    )
    caller_calls: int = _setting(
        0,
        "Calls in flight of one caller: a caller is a name or, without one, another host; "
        "0 for three quarters of all.",
        Interval(0, 4096),
    )
    caller_inflight_bytes: int = _setting(
        0,
        "Bytes of one caller's requests in flight; 0 for three quarters of all.",
        Interval(0, 1 << 50),
    )
    caller_calls_per_second: float = _setting(
        0.0,
        f"Calls that one caller may begin a second, at least {exactly(SLOWEST)}; 0 for any number.",
        Interval(0, 1e9),
        rule=_zero_or_from(SLOWEST),
    )
    caller_shm_segments: int = _setting(
        0,
        "Segments of shared memory of one caller, or of one process that has no name; "
        "0 for three quarters of all.",
        Interval(0, 4096),
    )
    max_connections: int = _setting(
        0,
        "Connections at the same time, to each address that a name such as localhost stands for; "
        "0 for as many as the limit of open files allows.",
        Interval(0, 1 << 20),
    )
    max_connection_calls: int = _setting(
        0,
        "Calls that one connection has open at a time beside a watch of health; more wait in the "
        "client. 0 for twice as many as may be in flight, and at least 256.",
        Interval(0, 1 << 20),
    )
    max_connection_resets: int = _setting(
        500,
        "Calls a second of one connection that may end before they are answered; it is ended if "
        "more do, and new ones of its address wait; 0 for any number.",
        Interval(0, 1 << 20),
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
    max_device_bytes: int = _setting(
        0,
        "Bytes of device memory that clients on this host may have together, which takes a GPU and "
        "shm_dir; 0 for none.",
        Interval(0, 1 << 50),
    )
    caller_device_bytes: int = _setting(
        0,
        "Bytes of device memory of one caller, or of one process that has no name; 0 for three "
        "quarters of all.",
        Interval(0, 1 << 50),
    )
    networks: str = _setting(
        "", "Directory of the networks that losses of images look through; empty for none."
    )
    max_network_bytes: int = _setting(
        2048 * MEBIBYTE,
        "Bytes that one image may take inside a network, in each thread that computes.",
        Interval(1, 1 << 50),
    )
    max_connection_age_seconds: float = _setting(
        0.0,
        "Age after which a connection takes no new calls and ends with its last one, so that its "
        f"client finds new servers, at least {_SHORTEST}; give or take a tenth, 0 for never.",
        Interval(0, 86400),
        rule=_zero_or_from(_SHORTEST),
    )
    jobs: str = _setting(
        "",
        "Training jobs whose losses and gradients have metrics of their own, with commas between; "
        "callers name theirs in x-lossd-job, among the metadata.",
        rule=job_names,
    )
    drain_delay_seconds: float = _setting(
        0.0,
        "After SIGTERM, how long to go on accepting calls while saying not ready.",
        Interval(0, 3600),
    )
    drain_seconds: float = _setting(
        25.0,
        "After drain_delay_seconds, how long accepted calls may take to finish.",
        Interval(0, 3600),
    )
    reflection: bool = _setting(True, "Whether to answer gRPC server reflection.")  # noqa: FBT003 - a default
    tracing: bool = _setting(
        False,  # noqa: FBT003 - a default
        "Whether to send a trace of each call to where the variables OTEL_* say.",
    )
    log_format: LogFormat = _setting(LogFormat.TEXT, "Lines for people, or JSON for machines.")
    log_level: LogLevel = _setting(
        LogLevel.INFO, "The least severity that is logged; debug has a line for every call."
    )

    def __post_init__(self) -> None:
        for setting in settings():
            # The one way to set what is frozen.
            object.__setattr__(self, setting.name, setting.checked(getattr(self, setting.name)))
        for one, other in TOGETHER:
            if getattr(self, one) and not getattr(self, other):
                raise ConfigError(f"{other} must be set with {one}, got none", field=other)
        if self.socket_mode and addresses.file_of(self.address) is None:
            raise ConfigError(
                f"address must be a unix:/path with socket_mode, got {self.address}",
                field="address",
            )
        where = addresses.parse(self.address)
        pages = addresses.Port(addresses.parse_host(self.metrics_host), self.metrics_port)
        if isinstance(where, addresses.Port) and addresses.is_same(where, pages):
            raise ConfigError(
                f"metrics_port must differ from the port of address, got {self.metrics_port}",
                field="metrics_port",
            )

    @property
    def is_open(self) -> bool:
        """Whether other hosts can reach it, and nobody has to prove who he is."""
        proofs = (self.tls_client_ca, self.token_file, self.access, self.jwks)
        return not any(proofs) and not addresses.is_here(self.address)

    @property
    def compute_threads(self) -> int:
        """The number of threads that compute."""
        return self.threads or usable_cores()


def _member(kind: type[enum.Enum], name: str, value: object) -> enum.Enum:
    """Returns a member of an enum, which its value stands for."""
    members = {member.value: member for member in kind}
    if isinstance(value, str) and value in members:
        return members[value]
    hint = guess(value, members) if isinstance(value, str) else ""
    raise forms.FormError(f"{name} must be one of {', '.join(members)}, got {value!r:.64}{hint}")


def _number(name: str, value: Any) -> float:
    """Returns a number, which True and False are to Python."""
    if isinstance(value, bool):
        raise forms.FormError(f"{name} must be a number, got {value}")
    return forms.number(name, value)


def _text(name: str, value: Any) -> str:
    """Returns a text; a path is one."""
    found = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(found, str):
        return found
    raise forms.FormError(f"{name} must be a text, got {value!r:.64}")


# What reads a value of each type but the enums.
_READERS: Mapping[type, Callable[[str, Any], Any]] = MappingProxyType(
    {
        bool: forms.truth,
        int: functools.partial(forms.whole_number, 64),
        float: _number,
        str: _text,
    }
)


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

    def checked(self, value: Any) -> Any:
        """Returns a value in the type of the setting.

        Raises:
            ConfigError: if it has another type, is out of bounds or breaks its rule.
        """
        read = _READERS.get(self.type) or functools.partial(_member, self.type)
        found: Any
        try:
            found = read(self.name, value)
        except forms.FormError as error:
            raise ConfigError(str(error), field=self.name) from error
        if self.bounds is not None and found not in self.bounds:
            raise ConfigError(f"{self.name} must be in {self.bounds}, got {found}", field=self.name)
        try:
            if self.rule is not None:
                self.rule(found)
        except ValueError as error:
            shown = found or "none"
            raise ConfigError(f"{self.name} {error}, got {shown}", field=self.name) from error
        return found


def settings() -> tuple[Setting, ...]:
    """Returns every setting, in the order of the fields."""
    types = typing.get_type_hints(Config)
    return tuple(
        Setting(f.name, types[f.name], f.default, **f.metadata) for f in dataclasses.fields(Config)
    )


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Returns variables that look like settings but are none: a misspelt limit would not limit."""
    known = BUILD_VARIABLES | {setting.variable for setting in settings()}
    return sorted(
        name for name in environment if name.startswith(ENVIRONMENT_PREFIX) and name not in known
    )
