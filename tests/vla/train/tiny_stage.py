"""The smallest stage that has everything the loop must handle: blocks, tied, frozen and embedding parameters, both
kinds of buffer, and randomness keyed by sample."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import functional

from data_mixtures.batch import Batch
from vla.nn.randomness import normal_like_ids, uniform_like_ids

WIDTH, TOKENS, VOCABULARY, SEED = 16, 5, 11, 3


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 3 * WIDTH + 1), nn.Linear(3 * WIDTH + 1, WIDTH)  # odd: uneven shards

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.out(functional.scaled_dot_product_attention(q, k, v))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Network(nn.Module):
    positions: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.tower = nn.Linear(46, WIDTH).requires_grad_(False)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.words.weight
        self.velocity = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("positions", torch.zeros(TOKENS, WIDTH), persistent=False)
        self.register_buffer("scale", torch.ones(1))

    def forward(self, state: Tensor, noisy: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([self.tower(state)[:, None], noisy, self.words(words)[:, None]], dim=1) * self.scale
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.velocity(x[:, 1:-1]), self.head(x[:, 0])


class TinyStage:
    """Flow matching on noise plus one classification, so that every trainable parameter is reached."""

    def settings(self) -> dict[str, object]:
        return {"objective.width": WIDTH, "objective.seed": SEED}

    def build(self) -> nn.Module:
        return Network()

    def init_parameter(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        if "norm" in name and name.endswith("weight") or name == "scale":
            return torch.ones(shape)
        if name.endswith("bias"):
            return torch.zeros(shape)
        return torch.randn(shape, generator=generator) / math.sqrt(shape[-1])

    def init_buffers(self, module: nn.Module) -> None:
        positions = module.get_buffer("positions")
        positions.copy_(torch.sin(torch.arange(TOKENS * WIDTH).float()).reshape(TOKENS, WIDTH))

    def parallelize(self, module: nn.Module, mesh: DeviceMesh | None) -> list[nn.Module]:
        assert isinstance(module, Network)
        return list(module.blocks)

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        noise = normal_like_ids(batch.sample_ids, (TOKENS - 2, WIDTH), SEED, stream=1)
        t = uniform_like_ids(batch.sample_ids, (1, 1), SEED, stream=2)
        target = batch.state[:, None, :WIDTH].expand_as(noise)
        words = batch.sample_ids % VOCABULARY
        velocity, logits = module(batch.state, t * noise + (1 - t) * target, words)
        flow = functional.mse_loss(velocity.float(), noise - target)
        text = functional.cross_entropy(logits.float(), words)
        return flow + text, {"flow": flow.detach(), "text": text.detach()}

    def save_assets(self, folder: Path) -> None:
        (folder / "config.json").write_text("{}")


class TinyEvaluator:
    """The loss on samples training never draws."""

    def run(self, module: nn.Module) -> Iterator[tuple[str, float]]:
        assert not module.training
        loss, _ = TinyStage().loss(module, TinyMixture().batch(range(10_000, 10_008)))
        assert not loss.requires_grad
        yield "loss", loss.item()


class TinyMixture:
    """A state drawn from the sample's id; the ids in `bad` give NaN. Remembers what it was asked for."""

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        self.bad = set(bad)
        self.asked: list[list[int]] = []

    def batch(self, sample_ids: Sequence[int]) -> Batch:
        self.asked.append(list(sample_ids))
        ids, size = torch.tensor(sample_ids), len(sample_ids)
        state = normal_like_ids(ids, (46,), SEED, stream=3)
        state[[i in self.bad for i in sample_ids]] = float("nan")
        return Batch(
            images=torch.zeros(size, 1, 1, 3, 2, 2, dtype=torch.uint8),
            camera_mask=torch.ones(size, 1, dtype=torch.bool),
            state=state,
            state_mask=torch.ones(size, 46, dtype=torch.bool),
            actions=torch.zeros(size, 4, 44),
            action_mask=torch.ones(size, 4, 44, dtype=torch.bool),
            instruction=[""] * size,
            subtask=[""] * size,
            sample_ids=ids,
        )
