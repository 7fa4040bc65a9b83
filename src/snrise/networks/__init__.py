"""Networks: `network(z, logsnr, labels)` -> a prediction of z's shape. They know tensors, not diffusion."""

from snrise.networks.uvit import Kind, Level, UViT, UViTConfig

__all__ = ["Kind", "Level", "UViT", "UViTConfig"]
