"""A server with the operator's networks: what it lists, computes, and refuses to start with."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lossd.client import InvalidRequestError, LossClient, LossdError, weighted_sum
from lossd.networks import save, worked_networks
from lossd.v1 import Lpips, Perceptual, SquaredError
from tests.end_to_end.conftest import serve

WHITE, BLACK = np.ones((2, 1, 4, 4), np.float32), np.zeros((2, 1, 4, 4), np.float32)


def test_server_info_lists_them(client: LossClient) -> None:
    info = client.server_info()

    assert [network.name for network in info.networks] == list(worked_networks())
    colour = next(n for n in info.networks if n.name == "worked_in_colour")
    assert (colour.architecture, colour.channels) == ("sequential", 3)
    assert list(colour.layers) == list(colour.lpips_layers) == ["linear", "rectified"]
    assert len(colour.sha256) == 64
    assert info.limits.network_bytes > 0


def test_the_catalogue_says_what_must_be_given(client: LossClient) -> None:
    listed = next(loss for loss in client.list_losses().losses if loss.name == "perceptual")
    told = {p.name: (p.type, p.default) for p in listed.parameters}

    assert told["network"] == ("string", "required")
    assert told["layers"] == ("repeated string", "required")
    assert told["value_range"] == ("repeated double", "required")
    assert told["layer_weights"] == ("repeated double", "[]")
    assert {shape for i in listed.inputs for shape in i.shapes} == {"(N, C, H, W)"}


def test_a_term_of_a_sum_looks_through_one_too(client: LossClient) -> None:
    perceptual = Perceptual(network="worked", layers=["linear"], value_range=[0, 1])
    both = weighted_sum((2.0, perceptual), (1.0, SquaredError()))
    result = client.compute(both, WHITE, BLACK)

    assert result.loss == pytest.approx(2 * 1 + 1)
    assert result.gradients["predictions"].shape == WHITE.shape


def test_what_a_caller_can_fix_is_said_with_its_field(client: LossClient) -> None:
    for loss, field, words in (
        (Lpips(network="vgg", value_range=[0, 1]), "network", "must be one of the server's"),
        (Lpips(network="worked"), "value_range", "value_range must be given for Lpips"),
        (Lpips(network="worked", value_range=[1]), "value_range", "the lower first, got"),
        (Lpips(value_range=[0, 1]), "network", "network must be given for Lpips, got nothing"),
        (Perceptual(network="worked", value_range=[0, 1]), "layers", "layers must be given for"),
    ):
        with pytest.raises(InvalidRequestError, match=words) as caught:
            client.compute(loss, WHITE, BLACK)
        assert caught.value.field == f"loss.{type(loss).__name__.lower()}.{field}"


def test_an_image_that_is_too_large_for_the_memory_is_refused_and_the_next_one_served(
    networks: Path,
) -> None:
    limits = ("--backend", "numpy", "--networks", str(networks), "--max-network-bytes", "10000")
    lpips = Lpips(network="worked", value_range=[0, 1])
    large = np.zeros((1, 1, 100, 100), np.float32)
    with serve(*limits) as server, LossClient(server.address) as client:
        with pytest.raises(LossdError, match="at most 10000 bytes inside worked, got 100 x 100"):
            client.compute(lpips, large, large)
        assert client.compute(lpips, WHITE, WHITE).loss == 0


def test_a_damaged_file_is_an_error_at_start(tmp_path: Path) -> None:
    save(tmp_path, worked_networks()["worked"])
    (tmp_path / "worked.safetensors").write_bytes(b"damaged")
    command = [
        sys.executable, "-m", "lossd", "serve", "--address", "127.0.0.1:0", "--metrics-port", "0",
        "--networks", str(tmp_path),
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert ended.stdout == ""
    assert f"{tmp_path}/worked.safetensors must have the sha256" in ended.stderr
    assert "Traceback" not in ended.stderr
