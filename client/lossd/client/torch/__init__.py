"""lossd's losses as modules of PyTorch: ``pip install '.[torch]'``."""

from lossd.client.extras import missing

try:
    from lossd.client.torch.remote_loss import RemoteLoss
except ModuleNotFoundError as error:
    raise missing(error, "torch") from error

__all__ = ["RemoteLoss"]
