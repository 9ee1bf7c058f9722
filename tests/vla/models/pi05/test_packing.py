"""What packing drops, what it keeps, and the shapes a bucket has."""

import pytest
import torch

from vla.models.pi05.model import Prefix
from vla.models.pi05.packing import pack, pad_to_bucket


def prefix() -> Prefix:
    """Two rows; camera c of row b is the constant 10 b + c. Row 0 has cameras 0 and 2, row 1 has camera 1."""
    images = (10.0 * torch.arange(2)[:, None] + torch.arange(3)).reshape(2, 3, 1, 1, 1).expand(2, 3, 3, 4, 4)
    image_mask = torch.tensor([[True, False, True], [False, True, False]])
    tokens = torch.tensor([[5, 6, 7, 0, 0], [8, 9, 0, 0, 0]])
    return Prefix(images, image_mask, tokens, tokens > 0)


def test_only_the_images_that_are_there_are_kept():
    packed = pack(prefix())
    assert packed.images[:, 0, 0, 0].tolist() == [0, 2, 11]
    assert packed.image_valid.tolist() == [[True, True], [True, False]]
    assert packed.place is not None
    assert packed.place[packed.image_valid.flatten()].tolist() == [0, 1, 2]
    assert packed.tokens.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert not packed.full
    assert packed.valid(2, 1).int().tolist() == [[1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1, 0, 1]]


def test_rows_alike_need_no_mask():
    whole = prefix()
    same = Prefix(whole.images, whole.image_mask[:1].expand(2, -1), whole.tokens[:, :2], whole.token_mask[:, :2])
    packed = pack(same)
    assert packed.full
    assert packed.place is None
    assert packed.images[:, 0, 0, 0].tolist() == [0, 2, 10, 12]


def test_a_bucket_has_an_image_a_slot_and_padded_text():
    packed = pad_to_bucket(prefix(), bucket=4)
    assert packed.images.shape[0] == 4
    assert packed.images[:, 0, 0, 0].tolist()[:3] == [0, 2, 11]
    assert packed.tokens.tolist() == [[5, 6, 7, 0], [8, 9, 0, 0]]
    assert packed.text_valid.int().tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize(("length", "padded"), [(1, 32), (32, 32), (33, 64), (200, 224)])
def test_buckets(length: int, padded: int):
    tokens = torch.ones(1, length, dtype=torch.int64)
    alone = Prefix(torch.zeros(1, 1, 3, 4, 4), torch.ones(1, 1, dtype=torch.bool), tokens, tokens > 0)
    packed = pad_to_bucket(alone, 32)
    assert packed.tokens.shape == packed.text_valid.shape == (1, padded)
    assert int(packed.text_valid.sum()) == length
