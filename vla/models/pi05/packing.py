"""What of a prefix must be computed at all: cameras and text that are there, moved together.

A token that is masked out changes nothing that is valid: nobody sees it, and positions count valid tokens only. So
cameras that a row lacks and the padding behind its text can go. Rows of a batch may lack different things; then what
is there moves to the left, rows are as wide as the widest, and a mask covers what is left over.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vla.models.pi05.model import Prefix


@dataclass(frozen=True)
class PackedPrefix:
    """A prefix without what nobody sees. C slots for cameras and N tokens of text are what the fullest row needs.

    Attributes:
        images: float [n, 3, H, W] in [-1, 1]: the images to run the vision tower on.
        place: int64 [B * C], which of the n images fills each slot; None where slot i holds image i.
        tokens: int64 [B, N].
        image_valid: bool [B, C].
        text_valid: bool [B, N].
        full: Nothing is masked: every row has C cameras and N tokens.
    """

    images: Tensor
    place: Tensor | None
    tokens: Tensor
    image_valid: Tensor
    text_valid: Tensor
    full: bool

    def valid(self, image_tokens: int, queries: int) -> Tensor:
        """Bool [B, C * image_tokens + N + queries]; queries are the latent queries at the end."""
        seen = self.image_valid[:, :, None].expand(-1, -1, image_tokens).flatten(1)
        return torch.cat([seen, self.text_valid, self.text_valid.new_ones(len(self.tokens), queries)], dim=1)


def pack(prefix: Prefix) -> PackedPrefix:
    """Drop what is masked: the tower runs on the images that are there, and on no other."""
    images, image_valid = _cameras_to_the_left(prefix)
    tokens, text_valid = _text(prefix)
    flat = image_valid.flatten()
    full = bool(flat.all())
    place = None if full else (flat.cumsum(0) - 1).clamp(min=0)
    images = images.flatten(0, 1)
    return PackedPrefix(
        images=images if full else images[flat],
        place=place,
        tokens=tokens,
        image_valid=image_valid,
        text_valid=text_valid,
        full=full and bool(text_valid.all()),
    )


def pad_to_bucket(prefix: Prefix, bucket: int) -> PackedPrefix:
    """Like `pack`, but of one of few shapes, as a recorded graph needs them.

    Args:
        prefix: Of B rows.
        bucket: Text is padded to a multiple of it.

    Returns:
        Every slot has its image, so shapes follow from B, the cameras of the fullest row and the bucket alone.
    """
    images, image_valid = _cameras_to_the_left(prefix)
    tokens, text_valid = _text(prefix)
    length = tokens.shape[1]
    padding = -length % bucket
    return PackedPrefix(
        images=images.flatten(0, 1),
        place=None,
        tokens=F.pad(tokens, (0, padding)),
        image_valid=image_valid,
        text_valid=F.pad(text_valid, (0, padding)),
        full=False,
    )


def _cameras_to_the_left(prefix: Prefix) -> tuple[Tensor, Tensor]:
    """Images [B, C, 3, H, W] and their mask [B, C] with each row's cameras first, in their order."""
    mask = prefix.image_mask
    if bool(mask.all()):
        return prefix.images, mask
    order = (~mask).int().argsort(dim=1, stable=True)[:, : int(mask.sum(1).max())]
    return prefix.images[torch.arange(len(mask), device=mask.device)[:, None], order], mask.gather(1, order)


def _text(prefix: Prefix) -> tuple[Tensor, Tensor]:
    """Tokens and their mask up to the last column that is valid in any row."""
    used = prefix.token_mask.any(0).nonzero()
    length = int(used[-1]) + 1 if len(used) else 0
    return prefix.tokens[:, :length], prefix.token_mask[:, :length]
