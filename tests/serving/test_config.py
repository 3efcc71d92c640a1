"""A setting is declared once, checked, and found wherever an operator looks for it."""

import contextlib
import re
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from lossd.backends.choose import BackendChoice
from lossd.cli.settings import takes_settings
from lossd.serving.config import Config, ConfigError, Setting, settings, unknown_variables


@pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.name)
def test_a_default_keeps_its_own_rule(setting: Setting) -> None:
    assert setting.checked(setting.default) is setting.default


# Of each type, what is none; a text of such a value is what a variable of the environment has.
WRONG: dict[type, tuple[Any, ...]] = {
    bool: ("yes", "", "true", 2, 0.5, None, [True]),
    int: ("2", "x", "", 2.5, 2.0, True, None, [2], 1 << 70),
    float: ("2", "soon", "", True, None, [2.0], 2j),
    str: (3, 2.5, True, None, ["127.0.0.1:0"], b"127.0.0.1:0"),
}
OF_NO_MEMBER = ("", "no such", "NUMPY", "TEXT", "INFO", 3, True, None, ["auto"])


@pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.name)
def test_a_value_of_another_type_is_refused_by_name(setting: Setting) -> None:
    for wrong in WRONG.get(setting.type, OF_NO_MEMBER):
        with pytest.raises(ConfigError, match=rf"^{setting.name} must be .*, got ") as caught:
            Config(**{setting.name: wrong})
        assert caught.value.field == setting.name


@pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.name)
def test_a_value_has_the_type_of_its_setting_whichever_way_it_comes(setting: Setting) -> None:
    number = 8 if setting.bounds is None or 8 in setting.bounds else int(setting.bounds.low)
    given: dict[type, Any] = {
        bool: np.True_, int: np.int64(number), float: 8, str: str(setting.default)
    }  # fmt: skip
    value = given.get(setting.type, str(setting.default))
    config = Config(**{setting.name: value}) if setting.type is not str else Config()
    assert type(getattr(config, setting.name)) is setting.type


@pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.name)
def test_the_text_of_a_variable_is_the_value_or_refused(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    command = click.command()(takes_settings(lambda *, config: found.append(config)))
    monkeypatch.setenv(setting.variable, text := str(setting.default))
    if text:
        command.main([], standalone_mode=False)
        assert found == [Config()]
    if setting.type is not str:
        monkeypatch.setenv(setting.variable, "no such")
        with pytest.raises(click.UsageError) as caught:
            command.main([], standalone_mode=False)
        assert setting.flag in caught.value.format_message()


@pytest.mark.parametrize(
    "setting", [one for one in settings() if one.bounds or one.rule], ids=lambda one: one.name
)
def test_a_command_names_the_flag_and_the_variable_of_what_breaks_a_rule(setting: Setting) -> None:
    wrong = "no: such" if setting.bounds is None else str(int(setting.bounds.high) + 1)
    command = click.command()(takes_settings(lambda *, config: config))
    with pytest.raises(click.UsageError) as caught:
        command.main([f"{setting.flag}={wrong}"], standalone_mode=False)
    said = caught.value.format_message()

    assert said.startswith(f"{setting.flag} ({setting.variable}) must ")
    assert said.endswith(f", got {wrong}" if setting.type is not float else f", got {wrong}.0")


def test_a_command_names_the_flags_of_settings_that_go_together() -> None:
    command = click.command()(takes_settings(lambda *, config: config))
    for given, said in (
        (["--tls-cert=a"], "--tls-key (LOSSD_TLS_KEY) must be set with --tls-cert, got none"),
        (
            ["--socket-mode=660"],
            "--address (LOSSD_ADDRESS) must be a unix:/path with --socket-mode",
        ),
        (
            ["--address=127.0.0.1:9464"],
            "--metrics-port (LOSSD_METRICS_PORT) must differ from the port of address, got 9464",
        ),
        (
            ["--metrics-host=a b"],
            "(LOSSD_METRICS_HOST) must be a host name or an IP address, got a b",
        ),
    ):
        with pytest.raises(click.UsageError) as caught:
            command.main(given, standalone_mode=False)
        assert said in caught.value.format_message()


@pytest.mark.parametrize(
    ("address", "pages", "is_same"),
    [
        ("127.0.0.1:7", "127.0.0.1:7", True),
        ("localhost:7", "127.0.0.1:7", True),
        ("Losses.example.com:7", "losses.example.com:7", True),
        ("0.0.0.0:7", "127.0.0.1:7", True),
        ("127.0.0.2:7", "0.0.0.0:7", True),
        ("[::]:7", "127.0.0.1:7", True),
        ("[0::1]:7", "::1:7", True),
        ("127.0.0.1:8", "127.0.0.1:7", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("127.0.0.2:7", "127.0.0.1:7", False),
        ("[::1]:7", "127.0.0.1:7", False),
        ("[::1]:7", "0.0.0.0:7", False),
        ("losses.example.com:7", "127.0.0.1:7", False),
        ("unix:/7", "127.0.0.1:7", False),
    ],
)
def test_both_ports_of_a_host_differ(address: str, pages: str, *, is_same: bool) -> None:
    host, _, port = pages.rpartition(":")
    refused = pytest.raises(ConfigError, match="metrics_port must differ from the port of address")
    with refused if is_same else contextlib.nullcontext():
        Config(address=address, metrics_host=host, metrics_port=int(port))


def test_a_member_goes_by_its_value() -> None:
    assert Config(backend="numpy").backend is BackendChoice.NUMPY  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="auto, numpy, cupy, got 'numpi': did you mean numpy"):
        Config(backend="numpi")  # type: ignore[arg-type]


def test_a_path_is_a_text(tmp_path: Path) -> None:
    assert Config(shm_dir=tmp_path).shm_dir == str(tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metrics_port", -1),
        ("metrics_port", 65536),
        ("threads", -1),
        ("max_calls", 0),
        ("max_axes", 9),
        ("max_message_bytes", 1 << 31),
        ("max_message_bytes", 127),
        ("max_call_seconds", 5e-324),
        ("first_message_seconds", 0.001),
        ("idle_seconds", 0.0),
        ("max_network_bytes", 0),
        ("drain_seconds", float("nan")),
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_rule(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must be in \[.*\], got {value}"):
        Config(**{name: value})  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("name", "least"), [("caller_calls_per_second", 1e-4), ("max_connection_age_seconds", 0.01)]
)
def test_a_value_that_is_next_to_none_is_none_or_named_with_the_least(
    name: str, least: float
) -> None:
    for value in (0.0, least):
        assert getattr(Config(**{name: value}), name) == value  # type: ignore[arg-type]  # by name
    with pytest.raises(ConfigError, match=rf"{name} must be 0 or at least {least:g}, got 1e-300"):
        Config(**{name: 1e-300})  # type: ignore[arg-type]


def test_a_misspelt_variable_is_found() -> None:
    found = unknown_variables({"LOSSD_THREAD": "2", "LOSSD_THREADS": "2", "PATH": "/bin"})

    assert found == ["LOSSD_THREAD"]


def test_every_variable_that_the_project_reads_is_known() -> None:
    root = Path(__file__).resolve().parents[2]
    patterns = (
        "*.py", ".ci/*", "deploy/*", "deploy/docker/Dockerfile", "server/lossd/**/*.py",
        "client/lossd/**/*.py", "benchmarks/*.py",
    )  # fmt: skip
    texts = [p.read_text() for pattern in patterns for p in root.glob(pattern) if p.is_file()]
    read = {name for text in texts for name in re.findall(r"\bLOSSD_[A-Z_]*[A-Z]\b", text)}

    assert {"LOSSD_HOST_KERNELS", "LOSSD_HOST_MACHINE", "LOSSD_WHEEL_TAG"} <= read
    assert unknown_variables(dict.fromkeys(read, "")) == []
