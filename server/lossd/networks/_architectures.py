"""The named architectures; their modules are numbered as in torchvision.

References: K. Simonyan and A. Zisserman, 2015, table 1; A. Krizhevsky, 2014 (One weird trick),
section 5; F. Iandola et al., SqueezeNet, 2016, table 1.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from lossd.networks._modules import Convolution, Fire, MaxPool, Module, Rectifier

Modules = tuple[Module, ...]


def _vgg(*blocks: int) -> Modules:
    """Returns blocks of 3x3 convolutions, with a max pool after each block."""
    modules: list[Module] = []
    for block, count in enumerate(blocks, 1):
        for number in range(1, count + 1):
            modules += [
                Convolution(f"conv{block}_{number}", padding=1),
                Rectifier(f"relu{block}_{number}"),
            ]
        modules.append(MaxPool(f"pool{block}"))
    return tuple(modules)


def _alexnet() -> Modules:
    return (
        Convolution("conv1", stride=4, padding=2),
        Rectifier("relu1"),
        MaxPool("pool1", kernel=3),
        Convolution("conv2", padding=2),
        Rectifier("relu2"),
        MaxPool("pool2", kernel=3),
        Convolution("conv3", padding=1),
        Rectifier("relu3"),
        Convolution("conv4", padding=1),
        Rectifier("relu4"),
        Convolution("conv5", padding=1),
        Rectifier("relu5"),
        MaxPool("pool5", kernel=3),
    )


def _squeezenet(*pools: int) -> Modules:
    """Returns fire modules 2 to 9, with a max pool after some of them; 1 is the convolution."""
    modules: list[Module] = [Convolution("conv1", stride=2), Rectifier("relu1")]
    for number in range(1, 10):
        if number > 1:
            modules.append(Fire(f"fire{number}"))
        if number in pools:
            modules.append(MaxPool(f"pool{number}", kernel=3, ceil=True))
    return tuple(modules)


ARCHITECTURES: Mapping[str, Callable[[], Modules]] = MappingProxyType(
    {
        "alexnet": _alexnet,
        "squeezenet1_0": lambda: _squeezenet(1, 4, 8),
        "squeezenet1_1": lambda: _squeezenet(1, 3, 5),
        "vgg11": lambda: _vgg(1, 1, 2, 2, 2),
        "vgg13": lambda: _vgg(2, 2, 2, 2, 2),
        "vgg16": lambda: _vgg(2, 2, 3, 3, 3),
        "vgg19": lambda: _vgg(2, 2, 4, 4, 4),
    }
)
