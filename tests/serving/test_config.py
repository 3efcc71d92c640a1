"""A setting is declared once, checked, and found wherever an operator looks for it."""

import pytest

from lossd.serving.config import Config, ConfigError, Setting, settings, unknown_variables


@pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.name)
def test_a_default_keeps_its_own_rule(setting: Setting) -> None:
    setting.check(setting.default)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metrics_port", -1),
        ("metrics_port", 65536),
        ("threads", -1),
        ("max_calls", 0),
        ("max_axes", 9),
        ("max_message_bytes", 1 << 31),
        ("max_network_bytes", 0),
        ("drain_seconds", float("nan")),
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_rule(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must be in \[.*\], got {value}"):
        Config(**{name: value})  # type: ignore[arg-type]  # by name


def test_a_misspelt_variable_is_found() -> None:
    found = unknown_variables({"LOSSD_THREAD": "2", "LOSSD_THREADS": "2", "PATH": "/bin"})

    assert found == ["LOSSD_THREAD"]
