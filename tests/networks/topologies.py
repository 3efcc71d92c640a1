"""torchvision's topologies in PyTorch, a quarter as wide, with its key names and random weights."""

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import nn

from lossd.networks import ARCHITECTURES, Heads, Network

# The layers that LPIPS looks at.
LPIPS_LAYERS = {
    "alexnet": ("relu1", "relu2", "relu3", "relu4", "relu5"),
    "squeezenet1_1": ("relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9"),
    "vgg16": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
}


class Fire(nn.Module):
    """SqueezeNet's module."""

    def __init__(self, given: int, few: int, many: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(given, few, 1)
        self.expand1x1 = nn.Conv2d(few, many, 1)
        self.expand3x3 = nn.Conv2d(few, many, 3, padding=1)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.expand1x1(x)), torch.relu(self.expand3x3(x))], 1)


def vgg16() -> list[nn.Module]:
    modules: list[nn.Module] = []
    given = 3
    for width, count in ((16, 2), (32, 2), (64, 3), (128, 3), (128, 3)):
        for _ in range(count):
            modules += [nn.Conv2d(given, width, 3, padding=1), nn.ReLU()]
            given = width
        modules.append(nn.MaxPool2d(2, 2))
    return modules


def alexnet() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 16, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(16, 48, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(48, 96, 3, padding=1), nn.ReLU(),
        nn.Conv2d(96, 64, 3, padding=1), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    ]  # fmt: skip


def squeezenet1_1() -> list[nn.Module]:
    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return [
        nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), pool(),
        Fire(16, 4, 16), Fire(32, 4, 16), pool(),
        Fire(32, 8, 32), Fire(64, 8, 32), pool(),
        Fire(64, 12, 48), Fire(96, 12, 48), Fire(96, 16, 64), Fire(128, 16, 64),
    ]  # fmt: skip


TOPOLOGIES = {"alexnet": alexnet, "squeezenet1_1": squeezenet1_1, "vgg16": vgg16}


def build(name: str) -> Any:
    """A trunk in PyTorch, in float64, under the key "features"."""
    torch.manual_seed(0)
    trunk = nn.Sequential(OrderedDict(features=nn.Sequential(*TOPOLOGIES[name]())))
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)  # so that deep layers see something
            nn.init.normal_(dict(module.named_parameters())["bias"], std=0.1)
    return trunk.double().requires_grad_(requires_grad=False)


def network(name: str, trunk: Any, heads: Heads | None = None) -> Network:
    """The same for lossd."""
    return Network(
        name=name,
        architecture=name,
        modules=ARCHITECTURES[name](),
        weights={key: array.numpy() for key, array in trunk.state_dict().items()},
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        heads=heads,
    )


def features(trunk: Any, images: Any, places: list[int]) -> list[Any]:
    """Returns PyTorch's maps of images of 0 to 1 at some places."""
    mean, std = (
        torch.tensor(numbers, dtype=torch.float64)[:, None, None]
        for numbers in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    found, x = [], (images - mean) / std
    for position, module in enumerate(trunk.features):
        x = module(x)
        if position in places:
            found.append(x)
    return found


def heads(name: str, trunk: Any) -> Heads:
    """Random linear heads, none of them negative, as those that were learnt."""
    layers, rng = LPIPS_LAYERS[name], np.random.default_rng(0)
    places = [network(name, trunk).layers.index(layer) for layer in layers]
    widths = [maps.shape[1] for maps in features(trunk, torch.zeros(1, 3, 64, 64), places)]
    return Heads(layers, tuple(rng.uniform(0, 1, width) for width in widths))
