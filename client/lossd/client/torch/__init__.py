"""lossd's losses as modules of PyTorch: ``pip install '.[torch]'``."""

from lossd.client.torch.remote_loss import RemoteLoss

__all__ = ["RemoteLoss"]
