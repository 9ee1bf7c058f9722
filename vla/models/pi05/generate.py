"""Greedy decoding of sub-task text, with the prefix's keys and values kept."""

import torch
from torch import Tensor

from vla.models.pi05.model import Pi05, Prefix
from vla.models.pi05.tokenizer import EOS


def generate_text(model: Pi05, prefix: Prefix, max_tokens: int) -> list[list[int]]:
    """The most likely next tokens after a sub-task prompt, up to EOS (left out): one list of ids a sample."""
    encoded = model.encode(prefix, needs_hidden=True)
    token = model.text_logits(encoded, prefix)[:, 0].argmax(-1)
    cache, valid = list(encoded.cache), encoded.prefix_valid
    written: list[Tensor] = []
    running = torch.ones_like(token, dtype=torch.bool)
    while len(written) < max_tokens:
        running = running & (token != EOS)
        if not running.any():
            break
        written.append(torch.where(running, token, EOS))
        position = valid.sum(1)
        valid = torch.cat([valid, torch.ones_like(valid[:, :1])], dim=1)
        token = model.extend(written[-1], position, valid, cache).argmax(-1)
    rows = torch.stack(written, dim=1).tolist() if written else [[] for _ in token]
    return [row[: row.index(EOS)] if EOS in row else row for row in rows]
