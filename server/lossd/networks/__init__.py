"""Networks whose layers losses compare images in: the operator's, loaded once.

Convolution, rectifiers and pools, forward and backward to the image, over NumPy or CuPy; there is
no gradient with respect to the weights.  An image goes through alone, so that its result is its
own.
"""

from lossd.networks._architectures import ARCHITECTURES
from lossd.networks._convolution import Device
from lossd.networks._files import NetworkError, load, save
from lossd.networks._modules import (
    AveragePool,
    Convolution,
    Fire,
    MaxPool,
    Module,
    Rectifier,
)
from lossd.networks._network import Activations, DeviceNetwork, DeviceNetworks, Heads, Network
from lossd.networks._view import ImagePipeline, Networks
from lossd.networks._worked import worked_networks

__all__ = [
    "ARCHITECTURES",
    "Activations",
    "AveragePool",
    "Convolution",
    "Device",
    "DeviceNetwork",
    "DeviceNetworks",
    "Fire",
    "Heads",
    "ImagePipeline",
    "MaxPool",
    "Module",
    "Network",
    "NetworkError",
    "Networks",
    "Rectifier",
    "load",
    "save",
    "worked_networks",
]
