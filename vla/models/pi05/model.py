"""The mathematics of pi0.5: a SigLIP + Gemma prefix, and an action expert that denoises a chunk while reading it.

Sequence, left to right, and who sees whom:

    prefix   [ camera 0 patches | camera 1 ... | prompt | latent queries ]   bidirectional over its valid tokens
    text     [ sub-task text ]                                               causal; sees the prefix
    suffix   [ S noisy actions ]                                             bidirectional; sees the prefix, not text

The prefix sees neither text nor suffix, so its keys and values are computed once and serve any number of denoising
steps. Parameter names are those of the published files (see `convert.py`); the latent read-out adds its own prefix.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla.models.pi05.config import LatentConfig, Pi05Config
from vla.models.pi05.vision import VisionTower
from vla.nn.ada_rms import AdaRMSNorm, stacked_modulations
from vla.nn.attention import KeyValue
from vla.nn.flow_matching import sincos_embedding
from vla.nn.norms import RMSNorm
from vla.nn.rotary import rotary_table
from vla.nn.transformer import AdaGemmaBlock, GemmaBlock


@dataclass(frozen=True)
class Prefix:
    """What the policy observes, ready for the network.

    images float [B, C, 3, H, W] in [-1, 1]; image_mask bool [B, C]; tokens int64 [B, N], right-padded;
    token_mask bool [B, N].
    """

    images: Tensor
    image_mask: Tensor
    tokens: Tensor
    token_mask: Tensor


@dataclass(frozen=True)
class TextTokens:
    """Sub-task text the model reads after the prefix: tokens int64 [B, M], right-padded; mask bool [B, M]."""

    tokens: Tensor
    mask: Tensor


@dataclass(frozen=True)
class NoisyActions:
    """Points on the flow's path: x_t float32 [B * K, S, A], time float32 [B * K]; K draws share one prefix.

    Row b * K + k belongs to sample b.
    """

    x_t: Tensor
    time: Tensor


@dataclass(frozen=True)
class Encoded:
    """The prefix (and text) after the VLM.

    hidden [B, N, width] after the final norm, or None where nothing asked for it; cache: keys and values of the
    prefix's tokens, one pair a layer; valid bool [B, N] over prefix and text; prefix_length, latent_start: counts
    of tokens.
    """

    hidden: Tensor | None
    cache: list[KeyValue]
    valid: Tensor
    prefix_length: int
    latent_start: int

    @property
    def prefix_valid(self) -> Tensor:
        """Bool [B, prefix_length]."""
        return self.valid[:, : self.prefix_length]

    def insulated(self) -> "Encoded":
        """The same values, through whose keys and values no gradient flows back."""
        return replace(self, cache=[(key.detach(), value.detach()) for key, value in self.cache])


class TokenEmbedding(nn.Module):
    """The tied embedding: looks tokens up, and scores hidden states. Published as `lm_head.weight`."""

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(vocab_size, width))

    def forward(self, x: Tensor) -> Tensor:
        """Integer tokens [...] -> embeddings [..., width] times sqrt(width); hidden [..., width] -> logits [..., V]."""
        if x.is_floating_point():
            return F.linear(x, self.weight)
        words = F.embedding(x, self.weight)
        if torch.is_autocast_enabled(x.device.type):
            words = words.float()  # the residual stream is float32 then, whatever the table is held in
        return words * self.weight.shape[1] ** 0.5


class GemmaStack(nn.Module):
    """Gemma layers and the final norm, without embedding."""

    def __init__(self, layers: list[nn.Module], norm: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm


class Projector(nn.Module):
    """Vision width to VLM width."""

    def __init__(self, vision_width: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(vision_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., vision width] -> [..., width]."""
        return self.linear(x)


class LatentReadout(nn.Module):
    """Learned scene and motion queries, and the map from their outputs to the teacher's space."""

    def __init__(self, config: LatentConfig, width: int) -> None:
        super().__init__()
        self.scene_queries = nn.Parameter(torch.zeros(config.scene_tokens, width))
        self.motion_queries = nn.Parameter(torch.zeros(config.motion_tokens, width))
        self.proj = nn.Linear(width, config.width)

    def forward(self, batch_size: int) -> Tensor:
        """The queries [B, scene + motion, width], scene first."""
        return torch.cat([self.scene_queries, self.motion_queries]).expand(batch_size, -1, -1)


def _container(**children: nn.Module) -> nn.Module:
    """A module that only gives its children their published path."""
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


class Pi05(nn.Module):
    """The student. `forward` serves every objective; `encode`, `denoise` and `extend` are its parts."""

    def __init__(self, config: Pi05Config) -> None:
        super().__init__()
        self.config = config
        vlm, expert = config.vlm, config.expert
        blocks = [GemmaBlock(vlm.width, vlm.mlp_dim, *vlm.attention_shape) for _ in range(vlm.depth)]
        ada_blocks = [AdaGemmaBlock(expert.width, expert.mlp_dim, *expert.attention_shape) for _ in range(expert.depth)]
        self.paligemma_with_expert = _container(
            paligemma=_container(
                model=_container(
                    vision_tower=_container(vision_model=VisionTower(config.vision)),
                    multi_modal_projector=Projector(config.vision.width, vlm.width),
                    language_model=GemmaStack(list(blocks), RMSNorm(vlm.width)),
                ),
                lm_head=TokenEmbedding(vlm.width, config.vocab_size),
            ),
            gemma_expert=_container(model=GemmaStack(list(ada_blocks), AdaRMSNorm(expert.width, expert.width))),
        )
        self.action_in_proj = nn.Linear(config.action_dim, expert.width)
        self.action_out_proj = nn.Linear(expert.width, config.action_dim)
        self.time_mlp_in = nn.Linear(expert.width, expert.width)
        self.time_mlp_out = nn.Linear(expert.width, expert.width)
        self.latent_readout = LatentReadout(config.latent, vlm.width) if config.latent else None

    @property
    def vision(self) -> VisionTower:
        """The SigLIP tower."""
        return self.get_submodule("paligemma_with_expert.paligemma.model.vision_tower.vision_model")  # pyright: ignore

    @property
    def projector(self) -> Projector:
        """Vision width to VLM width."""
        return self.get_submodule("paligemma_with_expert.paligemma.model.multi_modal_projector")  # pyright: ignore

    @property
    def language(self) -> GemmaStack:
        """The VLM's layers."""
        return self.get_submodule("paligemma_with_expert.paligemma.model.language_model")  # pyright: ignore

    @property
    def embedding(self) -> TokenEmbedding:
        """Token embedding and output head in one."""
        return self.get_submodule("paligemma_with_expert.paligemma.lm_head")  # pyright: ignore

    @property
    def expert(self) -> GemmaStack:
        """The action expert's layers."""
        return self.get_submodule("paligemma_with_expert.gemma_expert.model")  # pyright: ignore

    def forward(
        self,
        prefix: Prefix,
        *,
        read_latents: bool = False,
        text: TextTokens | None = None,
        noisy: NoisyActions | None = None,
        insulate: bool = False,
    ) -> dict[str, Tensor]:
        """Everything asked for, in one pass. With `insulate` no gradient of the velocity reaches the VLM.

        Returns:
            `latents` [B, L, D] with `read_latents`; `text_logits` [B, 1 + M, vocab] with `text` (the first row
            follows the prompt, row i the text's token i); `velocity` [B * K, S, A] float32 with `noisy`.
        """
        encoded = self.encode(prefix, text, read_latents, needs_hidden=read_latents or text is not None)
        out: dict[str, Tensor] = {}
        if read_latents:
            out["latents"] = self.read_latents(encoded)
        if text is not None:
            out["text_logits"] = self.text_logits(encoded, prefix)
        if noisy is not None:
            out["velocity"] = self.denoise(encoded.insulated() if insulate else encoded, noisy)
        return out

    def embed_prefix(self, prefix: Prefix, queries: bool) -> tuple[Tensor, Tensor]:
        """Prefix embeddings [B, N, width] and their validity bool [B, N]; all cameras pass the tower in one batch."""
        batch, cameras = prefix.image_mask.shape
        seen = self.projector(self.vision(prefix.images.flatten(0, 1)))
        seen = seen.unflatten(0, (batch, cameras))
        words = self.embedding(prefix.tokens)
        parts = [seen.flatten(1, 2).to(words.dtype), words]
        valid = [prefix.image_mask.repeat_interleave(seen.shape[2], dim=1), prefix.token_mask]
        if queries:
            if self.latent_readout is None:
                raise ValueError("model.latent is not set: this student has no latent queries to read")
            parts.append(self.latent_readout(batch).to(words.dtype))
            valid.append(prefix.token_mask.new_ones(batch, parts[-1].shape[1]))
        return torch.cat(parts, dim=1), torch.cat(valid, dim=1)

    def encode(
        self, prefix: Prefix, text: TextTokens | None = None, read_latents: bool = False, needs_hidden: bool = False
    ) -> Encoded:
        """Run the VLM over prefix and text.

        Without `needs_hidden` the last layer stops after its keys and values, the only part anything reads.
        """
        queries = read_latents or (self.latent_readout is not None and self.config.keep_latent_tokens)
        x, valid = self.embed_prefix(prefix, queries)
        prefix_length = x.shape[1]
        latent_start = prefix_length - (self.config.latent.num_tokens if queries and self.config.latent else 0)
        if text is not None:
            x = torch.cat([x, self.embedding(text.tokens)], dim=1)
            valid = torch.cat([valid, text.mask], dim=1)
        mask = prefix_text_mask(valid, prefix_length)
        rotary = rotary_table(valid.cumsum(1) - 1, self.config.vlm.head_dim)
        cache: list[KeyValue] = []
        last = len(self.language.layers) - 1
        for index, layer in enumerate(self.language.layers):
            x, key, value = layer(x, rotary, mask, only_key_value=index == last and not needs_hidden)
            cache.append((key[:, :, :prefix_length], value[:, :, :prefix_length]))
        hidden = self.language.norm(x) if needs_hidden else None
        return Encoded(hidden, cache, valid, prefix_length, latent_start)

    def read_latents(self, encoded: Encoded) -> Tensor:
        """The teacher's representations as the student predicts them: [B, scene + motion, D] float32."""
        assert encoded.hidden is not None
        assert self.latent_readout is not None
        queries = encoded.hidden[:, encoded.latent_start : encoded.prefix_length]
        return self.latent_readout.proj(queries).float()

    def text_logits(self, encoded: Encoded, prefix: Prefix) -> Tensor:
        """Next-token scores after the prompt and after each text token: [B, 1 + M, vocab] float32.

        The prompt's last valid token predicts the first text token, though queries stand between them.
        """
        assert encoded.hidden is not None
        prompt_start = encoded.latent_start - prefix.tokens.shape[1]
        last = prompt_start + prefix.token_mask.sum(1) - 1
        first = encoded.hidden[torch.arange(len(last), device=last.device), last]
        hidden = torch.cat([first[:, None], encoded.hidden[:, encoded.prefix_length :]], dim=1)
        return self.embedding(hidden).float()

    def condition(self, time: Tensor) -> Tensor:
        """Flow times [T] -> the adaRMS condition [T, expert width]."""
        with torch.autocast(time.device.type, enabled=False):
            x = sincos_embedding(time, self.config.expert.width).to(self.time_mlp_in.weight.dtype)
            return F.silu(self.time_mlp_out(F.silu(self.time_mlp_in(x))))

    def denoise(self, encoded: Encoded, noisy: NoisyActions, modulations: list[Tensor] | None = None) -> Tensor:
        """The velocity at x_t, [B * K, S, A] float32.

        `modulations` are those of `step_modulations` for one time: then `noisy.time` is not read.
        """
        draws = len(noisy.x_t) // len(encoded.valid)
        horizon = noisy.x_t.shape[1]
        valid = _repeat(encoded.prefix_valid, draws)
        seen = torch.cat([valid, valid.new_ones(len(valid), horizon)], dim=1)[:, None, None]
        positions = valid.sum(1, keepdim=True) + torch.arange(horizon, device=valid.device)
        rotary = rotary_table(positions, self.config.expert.head_dim)
        cond = self.condition(noisy.time) if modulations is None else noisy.time
        with torch.autocast(noisy.x_t.device.type, enabled=False):
            x = self.action_in_proj(noisy.x_t.to(self.action_in_proj.weight.dtype))
        for index, layer in enumerate(self.expert.layers):
            key, value = (_repeat(part, draws) for part in encoded.cache[index])
            pair = None if modulations is None else (modulations[2 * index], modulations[2 * index + 1])
            x = layer(x, cond, rotary, seen, (key, value), pair)
        norm = self.expert.norm
        assert isinstance(norm, AdaRMSNorm)
        x, _ = norm(x, norm.modulation(cond) if modulations is None else modulations[-1])
        with torch.autocast(x.device.type, enabled=False):
            return self.action_out_proj(x.to(self.action_out_proj.weight.dtype)).float()

    def step_modulations(self, times: Tensor) -> list[list[Tensor]]:
        """All adaRMS modulations of all times [T] in one matrix product: per time, one [1, 3 * width] per norm."""
        norms: list[AdaRMSNorm] = []
        for layer in self.expert.layers:
            assert isinstance(layer, AdaGemmaBlock)
            norms += [layer.input_layernorm, layer.post_attention_layernorm]
        assert isinstance(self.expert.norm, AdaRMSNorm)
        stacked = stacked_modulations([*norms, self.expert.norm], self.condition(times))
        return [[part[step : step + 1] for part in stacked] for step in range(len(times))]

    def extend(self, tokens: Tensor, position: Tensor, valid: Tensor, cache: list[KeyValue]) -> Tensor:
        """Read one more text token [B] at `position` [B]; extends `cache` in place; returns logits [B, vocab].

        `valid` bool [B, N + 1] covers the cached tokens and the new one.
        """
        x = self.embedding(tokens[:, None])
        rotary = rotary_table(position[:, None], self.config.vlm.head_dim)
        for index, layer in enumerate(self.language.layers):
            context = cache[index]
            x, key, value = layer(x, rotary, valid[:, None, None], context)
            cache[index] = (torch.cat([context[0], key], dim=2), torch.cat([context[1], value], dim=2))
        return self.embedding(self.language.norm(x)[:, 0]).float()


def _repeat(x: Tensor, draws: int) -> Tensor:
    # Several draws each get a copy of the prefix's one key and value head. A mask that lets all of a sample's draws lie
    # behind one copy was 10 % slower on a CPU at 4 and 8 draws and kept as much: the mask is as large as the copies.
    return x if draws == 1 else x.repeat_interleave(draws, dim=0)


def prefix_text_mask(valid: Tensor, prefix_length: int) -> Tensor:
    """Who sees whom in [prefix | text], from validity [B, N]: bool [B, 1, 1 or N, N], True to look."""
    keys = valid[:, None, None]
    length = valid.shape[1]
    if prefix_length == length:
        return keys
    index = torch.arange(length, device=valid.device)
    is_text = index >= prefix_length
    return keys & (~is_text[None, :] | (is_text[:, None] & (index[None, :] <= index[:, None])))
