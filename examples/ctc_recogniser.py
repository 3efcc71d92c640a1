"""Transcripts of a real text recogniser: the right one has the lowest CTC loss.

    pip install '.[examples]'
    python examples/ctc_recogniser.py ["A line of text" ...]

Each text is drawn as an image with Pillow.  The recogniser, a network inside the OCR package, turns
it into probabilities of some thousand characters in each of its frames; nothing tells it where a
character begins.  A lossd server in a second process then says what each of a few transcripts costs
against these frames: the text itself, and texts with one letter changed, lost, doubled or swapped.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from lossd.cli.served import running_server
from lossd.client import LossClient
from lossd.v1 import Ctc

TEXTS = ("lossd computes losses", "balloon 2718", "Hello, world")
HEIGHT = 48  # of the images that the network was trained on
Floats = npt.NDArray[np.float32]


class Recogniser:
    """The recogniser of the OCR package; class 0 is the blank, the others are characters."""

    def __init__(self) -> None:
        # The package itself wants more than its network, which is all that is needed here.
        package = importlib.util.find_spec("rapidocr_onnxruntime")
        if package is None or package.origin is None:
            raise SystemExit("rapidocr-onnxruntime must be installed, got no such package")
        network = next(Path(package.origin).parent.rglob("*rec*.onnx"))
        self._session = onnxruntime.InferenceSession(str(network))
        listed = self._session.get_modelmeta().custom_metadata_map["character"].splitlines()
        self._classes = {
            character: position for position, character in enumerate([*listed, " "], 1)
        }

    def frames(self, image: Image.Image) -> Floats:
        """Probabilities, (frames, classes)."""
        pixels = np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1
        name = self._session.get_inputs()[0].name
        found: Floats = self._session.run(None, {name: pixels[None]})[0][0]
        return found

    def labels(self, text: str) -> list[int]:
        """The classes of the characters of a text."""
        return [self._classes[character] for character in text]


def drawn(text: str) -> Image.Image:
    """A line of black letters on white."""
    font = ImageFont.load_default(32)
    image = Image.new("RGB", (int(font.getlength(text)) + 24, HEIGHT), "white")
    ImageDraw.Draw(image).text((12, 4), text, fill="black", font=font)
    return image


def variants(text: str) -> dict[str, str]:
    """The text and what it is easily mistaken for, by what was done to it."""
    middle = len(text) // 2
    head, letter, tail = text[:middle], text[middle], text[middle + 1 :]
    other = "x" if letter != "x" else "y"
    return {
        "right": text,
        "changed": head + other + tail,
        "lost": head + tail,
        "doubled": head + 2 * letter + tail,
        "swapped": text[1] + text[0] + text[2:],
    }


def costs(client: LossClient, recogniser: Recogniser, text: str) -> dict[str, float]:
    """The CTC loss of each variant, all in one batch."""
    rows = [recogniser.labels(variant) for variant in variants(text).values()]
    targets = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for target, row in zip(targets, rows, strict=True):
        target[: len(row)] = row
    frames = recogniser.frames(drawn(text))
    result = client.compute(
        Ctc(prediction_kind="PROBABILITIES"),
        predictions=np.repeat(frames[None], len(rows), axis=0),
        targets=targets,
        target_lengths=[len(row) for row in rows],
        gradients=(),
    )
    return dict(zip(variants(text), np.asarray(result.per_example).tolist(), strict=True))


def main() -> None:
    """Prints a row a text."""
    recogniser = Recogniser()
    table = Table("text", *variants("text"))
    with running_server() as server, LossClient(server.address) as client:
        for text in sys.argv[1:] or TEXTS:
            found = costs(client, recogniser, text)
            table.add_row(text, *(f"{cost:.3f}" for cost in found.values()))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
