"""The fast sampler: what `sample.sample_actions` computes, from fused weights and without what nobody sees."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vla.models.pi05 import fused
from vla.models.pi05.fused_layers import (
    ContextBuffer,
    HeadShape,
    expert_layer,
    modulated,
    prefix_keys_and_values,
    prefix_layer,
    vision_layer,
)
from vla.models.pi05.graphs import GraphCache, record_cuda
from vla.models.pi05.model import Pi05, Prefix
from vla.models.pi05.packing import PackedPrefix, pack, pad_to_bucket
from vla.models.pi05.sample import gripper_velocity
from vla.nn.flow_matching import euler_times
from vla.nn.rotary import RotaryTable, rotary_table

TEXT_BUCKET = 16
MOST_GRAPHS = 16


class Layers(NamedTuple):
    """The functions of the three kinds of layers."""

    vision: Callable[..., Tensor]
    prefix: Callable[..., Tensor]
    expert: Callable[..., Tensor]


PLAIN = Layers(vision_layer, prefix_layer, expert_layer)


class FusedStudent:
    """The parts of inference: `embed` (vision, text), `read` (prefix), `denoise` (steps); `sample` is all three."""

    def __init__(self, model: Pi05, dtype: torch.dtype, layers: Layers) -> None:
        config = model.config
        fused.cast_as_published(model, dtype)
        self.config, self.dtype, self.layers = config, dtype, layers
        self.embeddings, self.embedding = model.vision.embeddings, model.embedding
        self.vision = fused.vision_layers(model)
        self.vision_norm = fused.weight_and_bias(model.vision.post_layernorm)
        self.projector = fused.weight_and_bias(model.projector.linear)
        self.prefix = fused.prefix_layers(model)
        self.expert = fused.expert_layers(model)
        self.modulations = fused.modulations(model, dtype)
        self.action_in = fused.weight_and_bias(model.action_in_proj)
        self.action_out = fused.weight_and_bias(model.action_out_proj)
        self.queries = model.latent_readout if config.keep_latent_tokens else None
        self.shape = HeadShape(*config.vlm.attention_shape)
        self.times = euler_times(config.num_steps, model.action_in_proj.weight.device)

    def see(self, images: Tensor) -> Tensor:
        """Images [n, 3, H, W] -> [n, tokens, VLM width]."""
        x = self.embeddings(images).to(self.dtype)
        for layer in self.vision:
            x = self.layers.vision(x, layer, self.config.vision.num_heads)
        x = F.layer_norm(x, x.shape[-1:], *self.vision_norm, eps=1e-6)
        return F.linear(x, *self.projector)

    def embed(self, packed: PackedPrefix) -> Tensor:
        """The prefix as it enters the VLM: [B, cameras * tokens + text + queries, width]."""
        batch, cameras = packed.image_valid.shape
        parts = []
        if cameras:
            seen = self.see(packed.images)
            seen = seen if packed.place is None else seen[packed.place]
            parts.append(seen.unflatten(0, (batch, cameras)).flatten(1, 2))
        parts.append(self.embedding(packed.tokens))
        if self.queries is not None:
            parts.append(self.queries(batch).to(self.dtype))
        return torch.cat(parts, dim=1)

    def read(self, x: Tensor, rotary: RotaryTable, mask: Tensor | None) -> list[ContextBuffer]:
        """Keys and values of every layer, with room for the suffix's behind them."""
        shape = (len(x), self.shape.kv_heads, x.shape[1] + self.config.horizon, self.shape.dim)
        buffers = [ContextBuffer(x.new_empty(shape), x.new_empty(shape)) for _ in self.prefix]
        for layer, buffer in zip(self.prefix[:-1], buffers[:-1], strict=True):
            x = self.layers.prefix(x, layer, self.shape, rotary, mask, buffer)
        prefix_keys_and_values(x, self.prefix[-1], self.shape, rotary, buffers[-1])
        return buffers

    def velocity(
        self, x_t: Tensor, step: int, context: list[ContextBuffer], rotary: RotaryTable, mask: Tensor | None
    ) -> Tensor:
        """The velocity at x_t [B, S, A] at Euler step `step`: the same shape, float32."""
        scale, shift, gate = (part[step] for part in self.modulations)
        x = F.linear(x_t, *self.action_in).to(self.dtype)
        for index, (layer, buffer) in enumerate(zip(self.expert, context, strict=True)):
            both = slice(2 * index, 2 * index + 2)
            x = self.layers.expert(x, layer, (scale[both], shift[both], gate[both]), self.shape, rotary, mask, buffer)
        return F.linear(modulated(x, scale[-1], shift[-1]).float(), *self.action_out)

    def tables(self, packed: PackedPrefix) -> tuple[RotaryTable, RotaryTable, Tensor | None]:
        """Rotary tables of the prefix and of the suffix, and the mask [B, 1, 1, prefix + S] or None."""
        config = self.config
        queries = config.latent.num_tokens if self.queries is not None and config.latent is not None else 0
        valid = packed.valid(config.vision.num_tokens, queries)
        valid = F.pad(valid, (0, config.horizon), value=True)
        positions = valid[:1] if packed.full else valid
        cos, sin = rotary_table(positions.cumsum(1) - 1, self.shape.dim)
        half = self.shape.dim // 2
        cos, sin = (part[:, 0, :, None, :half].to(self.dtype) for part in (cos, sin))
        split = valid.shape[1] - config.horizon
        return (
            (cos[:, :split], sin[:, :split]),
            (cos[:, split:], sin[:, split:]),
            None if packed.full else valid[:, None, None],
        )

    def denoise(self, noise: Tensor, context: list[ContextBuffer], rotary: RotaryTable, mask: Tensor | None) -> Tensor:
        """All Euler steps, from noise [B, S, A] to actions."""
        num_steps = self.config.num_steps
        present = (noise != 0).any(1, keepdim=True)
        x = noise
        for step in range(num_steps):
            velocity = self.velocity(x, step, context, rotary, mask)
            if self.config.gripper_logit:
                velocity = gripper_velocity(velocity, x, self.times[step])
            x = torch.where(present, x - velocity / num_steps, x)
        return x

    def sample(self, packed: PackedPrefix, noise: Tensor) -> Tensor:
        """Actions [B, S, A] from noise."""
        prefix_rotary, rotary, mask = self.tables(packed)
        prefix_mask = None if mask is None else mask[..., : mask.shape[-1] - self.config.horizon]
        context = self.read(self.embed(packed), prefix_rotary, prefix_mask)
        return self.denoise(noise, context, rotary, mask)


class Sampler:
    """Noise to actions; the same meaning as `sample_actions`, faster.

    Takes the model's weights over: its parameters become views of fused ones, cast to `dtype` with the float32
    islands of the published files. The model still works, but not in the precision it had.

    Args:
        model: With its weights, on the device it is to run on.
        dtype: float32 or bfloat16.
        compiled: Compile the layers with `torch.compile`; the first calls take minutes then.
        graphs: Replay a CUDA graph over vision, prefix and steps: one a number of rows, cameras and bucket of text.

    Raises:
        ValueError: `graphs` without a CUDA device, or a dtype that is neither.
    """

    @torch.no_grad()
    def __init__(
        self, model: Pi05, dtype: torch.dtype = torch.float32, compiled: bool = False, graphs: bool = False
    ) -> None:
        device = model.action_in_proj.weight.device
        if graphs and device.type != "cuda":
            raise ValueError(f"graphs is True, but the model is on {device}: CUDA graphs need a CUDA device")
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"dtype is {dtype}: give torch.float32 or torch.bfloat16")
        self.student = FusedStudent(model, dtype, _compiled() if compiled else PLAIN)
        self.cache: GraphCache | None = None
        if graphs:
            record = partial(record_cuda, pool=torch.cuda.graph_pool_handle())
            self.cache = GraphCache(self.student.sample, record, MOST_GRAPHS)
        # Of few shapes: compiled code and graphs are made anew for others.
        self.pack = partial(pad_to_bucket, bucket=TEXT_BUCKET) if compiled or graphs else pack

    @torch.no_grad()
    def __call__(self, prefix: Prefix, noise: Tensor) -> Tensor:
        """Integrate noise [B, S, A] at t = 1 to normalised actions [B, S, A], float32.

        Dimensions whose noise is zero all along stay zero.
        """
        packed = self.pack(prefix)
        return self.student.sample(packed, noise) if self.cache is None else self.cache(packed, noise)


def _compiled() -> Layers:
    """A layer is compiled, not the network: all layers of a kind share one piece of code, made in seconds."""
    return Layers(*(torch.compile(layer) for layer in PLAIN))
