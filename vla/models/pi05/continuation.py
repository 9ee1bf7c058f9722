r"""What the VLM goes on learning in stage 3: to continue the prompt with the sub-task, and with the actions as tokens.

    [ prefix: cameras | "Task: ..., State: ...;\nAction: " ] [ sub-task EOS ] [ FAST tokens | EOS ]

Both follow the prefix causally in one pass; either may be left out. The action expert sees none of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_mixtures.batch import Batch
from vla.models.pi05.fast_tokens import FastTokens
from vla.models.pi05.model import TextTokens
from vla.models.pi05.processor import Processor
from vla.models.pi05.tokenizer import EOS, PAD


@dataclass(frozen=True)
class Continuation:
    """Tokens to read and to predict: inputs [B, M], labels int64 [B, M + 1], and which of those are what.

    text_mask, fast_mask: bool [B, M + 1], True on the sub-task's labels (with its EOS) and on the action tokens'.
    """

    inputs: TextTokens
    labels: Tensor
    text_mask: Tensor
    fast_mask: Tensor


def continuation(processor: Processor, batch: Batch, text: bool, fast: FastTokens | None) -> Continuation:
    """What follows each sample's prompt; nothing for a sample without a sub-task, or without actions."""
    count = len(batch.sample_ids)
    words = [[*processor.tokenizer.encode(name), EOS] if text and name else [] for name in batch.subtask]
    acts = action_rows(processor, batch, fast) if fast is not None else [[] for _ in range(count)]
    rows = [word + act for word, act in zip(words, acts, strict=True)]
    length = max(2, *(len(row) for row in rows))  # at least one input: the embedding is always reached
    labels = torch.tensor([row + [PAD] * (length - len(row)) for row in rows])
    place = torch.arange(length)
    spoken = torch.tensor([len(word) for word in words])[:, None]
    ends = torch.tensor([len(row) for row in rows])[:, None]
    device = batch.images.device
    inputs = TextTokens(labels[:, :-1].to(device), (place[:-1] < ends - 1).to(device))
    text_mask, fast_mask = place < spoken, (place >= spoken) & (place < ends)
    return Continuation(inputs, labels.to(device), text_mask.to(device), fast_mask.to(device))


def action_rows(processor: Processor, batch: Batch, fast: FastTokens) -> list[list[int]]:
    """Each sample's chunk as FAST tokens, `|` and EOS; empty for a sample without actions."""
    return [
        fast.continuation(chunk, processor.tokenizer) if chunk is not None else []
        for chunk in _chunks(processor, batch)
    ]


def fit_fast_tokens(processor: Processor, batches: Iterable[Batch]) -> FastTokens:
    """FAST tokens made for these batches' actions, up to 1,024 and half of the vocabulary."""
    chunks = [chunk for batch in batches for chunk in _chunks(processor, batch) if chunk is not None]
    size = processor.model.vocab_size
    return FastTokens.fit(chunks, size, min(1024, size // 2))


def _chunks(processor: Processor, batch: Batch) -> list[np.ndarray | None]:
    """Normalised actions [S, dimensions the sample has]; behind an episode's end the last action is held."""
    actions, mask = processor.actions(batch)
    return [_held(row.cpu().numpy(), seen.cpu().numpy()) for row, seen in zip(actions, mask, strict=True)]


def _held(actions: np.ndarray, seen: np.ndarray) -> np.ndarray | None:
    steps = np.flatnonzero(seen.any(1))
    if not len(steps):
        return None
    upto = np.minimum(np.arange(len(actions)), steps[-1])
    return actions[upto][:, seen.any(0)]
