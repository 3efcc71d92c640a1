"""Makes flags and environment variables from the declaration of the server's settings."""

import enum
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import click

from lossd.cli.arguments import Number, WholeNumber
from lossd.serving.config import Config, ConfigError, Setting, settings

Command = Callable[..., Any]

_TYPES: Mapping[type, Any] = MappingProxyType(
    {bool: click.BOOL, int: WholeNumber(), float: Number(), str: click.STRING}
)

SERVES_TOO = "Every flag of lossd serve is taken too: lossd serve --help lists them."

_SECTIONS = {
    "Where it serves": (
        "address", "socket_mode", "metrics_host", "metrics_port", "reflection",
    ),
    "Who may come in": (
        "tls_cert", "tls_key", "tls_client_ca", "metrics_tls_cert", "metrics_tls_key", "token_file",
        "access", "jwks", "jwt_issuer", "jwt_audience",
    ),
    "What computes": ("backend", "routes", "check_device", "threads"),
    "Limits": (
        "max_calls", "max_inflight_bytes", "max_message_bytes", "max_tensors", "max_axes",
        "max_call_seconds", "first_message_seconds", "idle_seconds", "max_connections",
        "max_connection_calls", "max_connection_resets",
    ),
    "Limits of one caller": (
        "caller_calls", "caller_inflight_bytes", "caller_calls_per_second", "caller_shm_segments",
    ),
    "Shared memory": (
        "shm_dir", "max_shm_segments", "max_shm_bytes", "max_device_bytes", "caller_device_bytes",
    ),
    "Networks": ("networks", "max_network_bytes"),
    "The end": ("drain_delay_seconds", "drain_seconds"),
    "Log and traces": ("log_format", "log_level", "tracing"),
}  # fmt: skip


_OF_A_SERVICE = (
    "Where it serves", "Who may come in", "Limits of one caller", "Shared memory", "The end",
)  # fmt: skip


def of_a_service() -> frozenset[str]:
    """Returns the variables of where a server serves whom, and of nothing that it computes."""
    names = {name for section in _OF_A_SERVICE for name in _SECTIONS[section]}
    return frozenset(setting.variable for setting in settings() if setting.name in names)


def takes_settings(command: Command) -> Command:
    """Gives a command the flags of all settings; it is called with a ``Config``."""
    return _with_flags(command, is_hidden=False)


def takes_hidden_settings(command: Command) -> Command:
    """Gives a command the same flags, which only the help of ``serve`` describes."""
    return _with_flags(command, is_hidden=True)


class SectionedCommand(click.Command):
    """A command whose help lists the settings in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes a section for each kind of setting, and one for the other options."""
        records = {param.name: param.get_help_record(ctx) for param in self.get_params(ctx)}
        of_settings = {setting.name for setting in settings()}
        named: dict[str, tuple[str, ...]] = dict(_SECTIONS)
        placed = {name for names in named.values() for name in names}
        named["More settings"] = tuple(name for name in of_settings if name not in placed)
        named["Options"] = tuple(name for name in records if name not in of_settings)
        for title, names in named.items():
            rows = [record for name in names if (record := records.get(name)) is not None]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class _Flag(click.Option):
    """The flag of a setting; its variable is left unread beside a server that runs.

    That has settings of its own, and those of one to come are no client's.
    """

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Returns what the variable says, if it is asked for."""
        is_elsewhere = isinstance(ctx.params.get("server"), str)  # neither None nor click's marker
        return None if is_elsewhere else super().resolve_envvar_value(ctx)


def _with_flags(command: Command, *, is_hidden: bool) -> Command:
    def with_config(**values: Any) -> Any:
        given = {s.name: values.pop(s.name) for s in settings()}
        try:
            config = Config(**given)
        except ConfigError as error:
            raise click.UsageError(_as_typed(error)) from error
        return command(config=config, **values)

    with_config.__doc__ = command.__doc__
    with_config.__name__ = command.__name__
    for setting in reversed(settings()):
        with_config = _option(setting, is_hidden=is_hidden)(with_config)
    return with_config


def _as_typed(error: ConfigError) -> str:
    """Returns what is wrong with a setting, by its flag and its variable."""
    flags = {setting.name: setting.flag for setting in settings() if "_" in setting.name}
    (wrong,) = (setting for setting in settings() if setting.name == error.field)
    rule, got, value = str(error).removeprefix(wrong.name).rpartition(", got ")
    words = (flags.get(word, word) for word in rule.split(" "))  # tls_cert, and no plain word
    return f"{wrong.flag} ({wrong.variable}){' '.join(words)}{got}{value}"


def _option(setting: Setting, *, is_hidden: bool) -> Callable[[Command], Command]:
    flag = f"{setting.flag}/--no-{setting.flag[2:]}" if setting.type is bool else setting.flag
    return click.option(
        flag,
        setting.name,
        cls=_Flag,
        type=type_of(setting),
        default=_plain(setting.default),
        envvar=setting.variable,
        show_envvar=True,
        show_default=True,
        hidden=is_hidden,
        help=setting.description,
    )


def _plain(default: Any) -> Any:
    return default.value if isinstance(default, enum.Enum) else default


def type_of(setting: Setting) -> Any:
    """Returns what turns the text of a flag or a variable into a value of a setting."""
    if issubclass(setting.type, enum.Enum):
        return click.Choice([member.value for member in setting.type])
    return _TYPES[setting.type]
