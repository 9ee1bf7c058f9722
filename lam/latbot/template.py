"""The paper's prompt as token ids, with the places where frames and queries go.

    Frame1: <img> P x <IMG_CONTEXT> </img>        one block a frame, joined by newlines; further cameras of the
    ...                                            same frame follow in the same block
    Given the instruction "..." ... description: [CP_SCE: Ns queries]. Action dynamics description: [CP_MOT: Nm queries]

The text after [CP_MOT] is a full stop that no query can see (the language model is causal), so it is left out.
Frames come first and padding last: frames sit at the same places in every row, and a causal model needs no mask.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lam.latbot.config import LatBotConfig
from lam.latbot.tokenizer import IMAGE_END, IMAGE_START, IMAGE_TOKEN
from vla.nn.torchvision_ops import ensure_torchvision_operators

ensure_torchvision_operators()

from transformers import PreTrainedTokenizerBase  # noqa: E402

BEFORE_INSTRUCTION = 'Given the instruction "'
AFTER_INSTRUCTION = (
    '" and the video frames, reason about what happens within this time span. Explain how the overall scene changes, '
    "and identify the temporal dependencies between consecutive frames. Highlight the actions, interactions, and "
    "transitions that drive the scene's evolution. Answer: Scene evolution description: "
)
BETWEEN_MARKERS = ". Action dynamics description: "


@dataclass(frozen=True)
class Prompt:
    """Token ids and the places to fill.

    token_ids     int64 [B, N]   pad where queries stand and after the end
    image_index   int64 [I]      columns of the frames' tokens, the same in every row: T x cameras x P of them
    scene_start   int64 [B]      column of the first scene query
    motion_start  int64 [B]      column of the first motion query
    """

    token_ids: Tensor
    image_index: Tensor
    scene_start: Tensor
    motion_start: Tensor

    def to(self, device: torch.device | str) -> "Prompt":
        """The same prompt on `device`."""
        return Prompt(*(tensor.to(device) for tensor in vars(self).values()))


def prompt_texts(num_frames: int, instructions: Sequence[str]) -> Iterator[str]:
    """Every piece of text that `Template` tokenizes: what a small tokenizer should be trained on."""
    yield from (_frame_label(index) for index in range(num_frames))
    yield from (BEFORE_INSTRUCTION, AFTER_INSTRUCTION, BETWEEN_MARKERS)
    yield from instructions


def _frame_label(index: int) -> str:
    return f"Frame{index + 1}: " if index == 0 else f"\nFrame{index + 1}: "


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    token_id = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(token_id, int)  # a list only for a list of tokens
    return token_id


class Template:
    """Turns instructions into prompts; everything but the instruction is tokenized once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: LatBotConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.image_token_id = _token_id(tokenizer, IMAGE_TOKEN)
        pad = tokenizer.pad_token_id
        self.pad_id = pad if isinstance(pad, int) else 0
        self._frames = self._frame_ids()
        self._image_index = torch.tensor([i for i, t in enumerate(self._frames) if t == self.image_token_id])
        # Tokenized piece by piece: the number of tokens around the instruction does not depend on it.
        self._before, self._after, self._between = map(
            self._ids, (BEFORE_INSTRUCTION, AFTER_INSTRUCTION, BETWEEN_MARKERS)
        )
        self._instructions: dict[str, list[int]] = {}

    def __call__(self, instructions: Sequence[str]) -> Prompt:
        """The prompt of every instruction, padded at the end to the longest."""
        config = self.config
        texts = [self._before + self._instruction_ids(text) + self._after for text in instructions]
        scene_start = torch.tensor([len(self._frames) + len(ids) for ids in texts])
        motion_start = scene_start + config.scene_tokens + len(self._between)
        length = int(motion_start.max()) + config.motion_tokens
        token_ids = torch.full((len(texts), length), self.pad_id)
        for row, ids in enumerate(texts):
            queries = [self.pad_id] * config.scene_tokens
            ids = self._frames + ids + queries + self._between
            token_ids[row, : len(ids)] = torch.tensor(ids)
        return Prompt(token_ids, self._image_index, scene_start, motion_start)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _instruction_ids(self, text: str) -> list[int]:
        if text not in self._instructions:
            self._instructions[text] = self._ids(text)
        return self._instructions[text]

    def _frame_ids(self) -> list[int]:
        start, end = (_token_id(self.tokenizer, token) for token in (IMAGE_START, IMAGE_END))
        image = [start, *[self.image_token_id] * self.config.vision.num_tokens, end]
        blocks = (self._ids(_frame_label(i)) + image * self.config.num_cameras for i in range(self.config.num_frames))
        return [token for block in blocks for token in block]
