"""A setting is declared once, checked, and found wherever an operator looks for it."""

import re
from pathlib import Path

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
