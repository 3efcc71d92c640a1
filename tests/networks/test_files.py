"""Networks in files: read as they were written, and refused with the file's name when damaged."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lossd.networks import (
    ARCHITECTURES,
    AveragePool,
    Convolution,
    Fire,
    MaxPool,
    NetworkError,
    Rectifier,
    load,
    save,
)
from tests.drawn_networks import drawn
from tests.versions import is_older

MODULES = (
    Convolution("conv1", stride=2, padding=1),
    Rectifier("relu1"),
    MaxPool("pool1", kernel=3, ceil=True),
    Fire("fire"),
    AveragePool("pool2", stride=1),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with one network."""
    tmp_path /= "new"
    save(tmp_path, drawn("own", MODULES, (4, 8), heads=("relu1", "fire")))
    return tmp_path


def test_a_network_is_read_as_it_was_written(folder: Path) -> None:
    vgg = drawn("small", ARCHITECTURES["vgg11"](), (4,) * 8, architecture="vgg11")
    save(folder, vgg)

    found = load(folder)

    assert list(found) == ["own", "small"]
    for written in (drawn("own", MODULES, (4, 8), heads=("relu1", "fire")), vgg):
        network = found[written.name]
        assert network.architecture == written.architecture
        assert network.modules == written.modules
        assert (network.mean, network.std) == (written.mean, written.std)
        assert network.weights.keys() == written.weights.keys()
        for key, array in network.weights.items():
            np.testing.assert_array_equal(array, written.weights[key])
        file = folder / f"{written.name}.safetensors"
        assert network.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found["small"].heads is None
    heads = found["own"].heads
    assert heads is not None
    assert heads.layers == ("relu1", "fire")
    assert [len(head) for head in heads.weights] == [4, 8]


def test_what_a_network_does_not_need_is_left_in_the_file(folder: Path) -> None:
    def with_classifier(weights: dict[str, Any]) -> None:
        weights["classifier.0.weight"] = np.zeros((2, 2), np.int8)
        for key in ("features.0.weight", "features.0.bias"):
            weights[key] = weights[key].astype(np.float16)

    _change_weights(folder, with_classifier)
    network = load(folder)["own"]
    assert "classifier.0.weight" not in network.weights
    assert network.weights["features.0.weight"].dtype == np.float32


def _change_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the weights, and the digest with them."""
    path = folder / "own.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    _change_description(folder, lambda said: said["weights"].update(sha256=digest))


def _change_description(folder: Path, change: Callable[[Any], Any]) -> None:
    path = folder / "own.json"
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def _refused(folder: Path, *words: str) -> None:
    with pytest.raises(NetworkError) as caught:
        load(folder)
    for word in (str(folder), *words):
        assert word in str(caught.value)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    _refused(tmp_path / "none", "networks must be a directory, got")


@pytest.mark.parametrize("file", ["own.safetensors", "own-lpips.safetensors"])
def test_a_file_that_is_missing_or_damaged_is_named(folder: Path, file: str) -> None:
    path = folder / file
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:7], b"", whole[:-4] + b"\0\0\0\1"):
        path.write_bytes(damaged)
        _refused(folder, "own.json must be usable", file, "must have the sha256")
    path.unlink()
    _refused(folder, "own.json must be usable", file, "No such file")


def test_a_file_that_is_no_safetensors_is_named(folder: Path) -> None:
    path = folder / "own.safetensors"
    path.write_bytes(b"not tensors")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    _change_description(folder, lambda said: said["weights"].update(sha256=digest))
    _refused(folder, str(path), "must be a safetensors file")


def test_weights_of_a_type_that_numpy_lacks_are_named(folder: Path) -> None:
    path = folder / "own.safetensors"
    head = json.dumps({"x": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(8))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    _change_description(folder, lambda said: said["weights"].update(sha256=digest))
    _refused(folder, str(path), "must hold types that NumPy has, got F8_E4M3")


def test_a_description_that_is_no_json_is_named(folder: Path) -> None:
    for text in ("{", "[]", "3", ""):
        (folder / "own.json").write_text(text)
        _refused(folder, "own.json must be usable")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("features.0.bias"), "features.0.bias must be there for conv1"),
        (lambda w: w.pop("features.3.expand3x3.weight"), "features.3.expand3x3.weight must be"),
        (lambda w: w.update({"features.0.bias": np.zeros(3, np.float32)}), "features.0.bias must"),
        (
            lambda w: w.update({"features.0.weight": np.zeros((4, 3, 3, 2), np.float32)}),
            "features.0.weight must have the shape [outputs, 3, kernel, kernel]",
        ),
        (
            lambda w: w.update({"features.3.squeeze.weight": np.zeros((2, 5, 1, 1), np.float32)}),
            "features.3.squeeze.weight must have the shape [outputs, 4, kernel, kernel]",
        ),
        (
            lambda w: w.update({"features.0.bias": np.full(4, np.nan, np.float32)}),
            "features.0.bias must be finite",
        ),
        pytest.param(
            lambda w: w.update({"features.0.bias": np.full(4, 1 + 1j, np.complex64)}),
            "features.0.bias must be real numbers, got complex64",
            marks=pytest.mark.skipif(is_older("safetensors", "0.7"), reason="cannot be written"),
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(folder: Path, change: Any, words: str) -> None:
    _change_weights(folder, change)
    _refused(folder, "own.json must be usable", words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("mean"), "mean must be given"),
        (lambda s: s.update(means=[0]), "keys must be of architecture, weights, mean, std, lpips"),
        (lambda s: s.update(architecture="resnet"), "or one of alexnet, squeezenet1_0, "),
        (lambda s: s.update(architecture=["relu"]), "a description must be an object, got str"),
        (lambda s: s.update(architecture=[]), "modules must be one or more"),
        (lambda s: s["architecture"][1].update(name="conv1"), "of different names"),
        (lambda s: s["architecture"][1].update(type="norm"), "type must be one of average_pool"),
        (lambda s: s["architecture"][0].update(stride=0), "stride must be a whole number"),
        (lambda s: s["architecture"][0].update(stride=1.5), "stride must be a whole number"),
        (lambda s: s["architecture"][0].update(padding=-1), "padding must be a whole number"),
        (lambda s: s["architecture"][0].update(ceil=True), "ceil"),
        (lambda s: s.update(std=[1, 0, 1]), "std must be 3 positive numbers"),
        (lambda s: s.update(std=[1, 1]), "std must be 3 positive numbers"),
        (lambda s: s.update(mean=["a"]), "could not convert"),
        (lambda s: s.update(mean=[0.0], std=[1.0]), "features.0.weight must have the shape"),
        (lambda s: s["lpips"].update(layers=["relu1", "relu9"]), "lpips.layers must be among"),
        (lambda s: s["lpips"].update(layers=["relu1"] * 3), "lin2.model.1.weight must be in"),
        (lambda s: s["lpips"].update(layers=["fire", "relu1"]), "lin0 must have 8 numbers"),
    ],
)
def test_descriptions_that_break_a_rule_are_named(folder: Path, change: Any, words: str) -> None:
    _change_description(folder, change)
    _refused(folder, "own.json must be usable", words)
