"""Frames to the latents the decoder generates, and back. Both codecs are frozen and have the same two methods."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lam.latbot.config import CodecConfig
from vla.nn.torchvision_ops import ensure_torchvision_operators

ensure_torchvision_operators()

from diffusers import AutoencoderDC  # noqa: E402


class PixelCodec(nn.Module):
    """Space to depth: [B, 3, H, W] in [-1, 1] to [B, 3 p^2, H/p, W/p] and back without loss. It has no weights."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config

    def encode(self, images: Tensor) -> Tensor:
        """Images float [B, 3, H, W] in [-1, 1] -> latents [B, channels, H/p, W/p]."""
        return F.pixel_unshuffle(images, self.config.patch_size) * self.config.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> images float [B, 3, H, W], not clipped."""
        return F.pixel_shuffle(latents / self.config.scale, self.config.patch_size)


class DCAE(nn.Module):
    """SANA's deep-compression autoencoder f32c32 (diffusers' class defaults are not SANA's; teacher.md)."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        channels = (128, 256, 512, 512, 1024, 1024)
        blocks = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
        scales = ((), (), (), (5,), (5,), (5,))
        self.autoencoder = AutoencoderDC(
            latent_channels=32,
            encoder_block_types=blocks,  # pyright: ignore[reportArgumentType]  (they write a tuple of one)
            decoder_block_types=blocks,  # pyright: ignore[reportArgumentType]
            encoder_block_out_channels=channels,
            decoder_block_out_channels=channels,
            encoder_layers_per_block=(2, 2, 2, 3, 3, 3),
            decoder_layers_per_block=(3,) * 6,
            encoder_qkv_multiscales=scales,
            decoder_qkv_multiscales=scales,
            upsample_block_type="interpolate",
            downsample_block_type="Conv",
            scaling_factor=config.scale,
        ).requires_grad_(False)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images float [B, 3, H, W] in [-1, 1] -> latents [B, 32, H/32, W/32], scaled to about unit variance."""
        images = images.to(self._dtype)
        return cast(Tensor, self.autoencoder.encode(images, return_dict=False)[0]).float() * self.config.scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> images float [B, 3, H, W], not clipped."""
        latents = (latents / self.config.scale).to(self._dtype)
        return cast(Tensor, self.autoencoder.decode(latents, return_dict=False)[0]).float()

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.autoencoder.parameters()).dtype  # bfloat16 inside a sharded forward


def build_codec(config: CodecConfig) -> PixelCodec | DCAE:
    """The codec that `config.kind` names."""
    return PixelCodec(config) if config.kind == "pixel" else DCAE(config)


def to_codec_frames(images: Tensor, config: CodecConfig) -> Tensor:
    """Images uint8 [B, 3, H, W] -> float32 in [-1, 1] at the codec's size."""
    frames = images.to(torch.float32) / 127.5 - 1.0
    size = (config.image_size, config.image_size)
    return frames if frames.shape[-2:] == size else F.interpolate(frames, size, mode="bilinear", antialias=True)


def to_uint8(frames: Tensor) -> Tensor:
    """Float [B, 3, H, W] in [-1, 1] -> uint8, clipped."""
    return ((frames.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
