"""From a Batch to the network's tensors and back: the one definition training and inference share."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from data_mixtures.batch import Batch
from data_mixtures.spaces.unified import ACTION_DIM, ACTION_GRIPPER_DIMS
from data_mixtures.statistics.normalisation import Normalisation
from vla.models.pi05.config import Pi05Config
from vla.models.pi05.images import Augmentation, augment_images, resize_with_pad, to_unit_range
from vla.models.pi05.model import Prefix, TextTokens
from vla.models.pi05.prompt import action_prompt, discretise_state, subtask_prompt
from vla.models.pi05.tokenizer import BOS, EOS, PAD, PromptTokenizer

Task = Literal["action", "subtask"]


@dataclass(frozen=True)
class Processor:
    """Transforms around the network; saved beside its weights.

    Attributes:
        model: Sizes of the network it feeds.
        tokenizer: For prompts and sub-tasks.
        normalisation: Between physical units and the network's.
        cameras: Names of the cameras, in the order the network was trained with.
    """

    model: Pi05Config
    tokenizer: PromptTokenizer
    normalisation: Normalisation
    cameras: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.tokenizer.vocab_size > self.model.vocab_size:
            raise ValueError(
                f"model.vocab_size {self.model.vocab_size} is smaller than the tokenizer's {self.tokenizer.vocab_size} "
                "tokens: raise model.vocab_size"
            )
        if self.model.action_dim != ACTION_DIM:
            raise ValueError(f"model.action_dim is {self.model.action_dim}; the unified action space has {ACTION_DIM}")

    def prefix(self, batch: Batch, task: Task, augment: Augmentation | None = None, seed: int = 0) -> Prefix:
        """What the network observes: the first frame, the instruction, and for `action` prompts the state.

        Cameras that no sample of the batch has are dropped, and the text is padded to the longest in the batch only.
        """
        present = batch.camera_mask.any(0)
        present[0] = True  # the tower always gets something: a batch without any camera reads one masked image
        images = to_unit_range(batch.images[:, 0, present])
        batch_size, cameras = images.shape[:2]
        images = resize_with_pad(images.flatten(0, 1), self.model.vision.image_size)
        images = images.unflatten(0, (batch_size, cameras))
        if augment is not None:
            shown = [name for name, there in zip(self.cameras, present.tolist(), strict=True) if there]
            images = augment_images(images, batch.sample_ids, shown, augment, seed)
        ids = [[BOS, *prompt][: self.model.max_text_tokens] for prompt in self._prompts(batch, task)]
        tokens, mask = _pad(ids, images.device)
        return Prefix(images, batch.camera_mask[:, present], tokens, mask)

    def _prompts(self, batch: Batch, task: Task) -> list[list[int]]:
        if task == "subtask":
            return [self.tokenizer.encode(subtask_prompt(text)) for text in batch.instruction]
        if not self.model.state_in_prompt:
            return [self.tokenizer.encode(action_prompt(text, None)) for text in batch.instruction]
        state, mask = batch.state.cpu(), batch.state_mask.cpu()
        bins = discretise_state(self.normalisation.normalise_state(state, mask))
        states = [row[seen].tolist() if seen.any() else None for row, seen in zip(bins, mask, strict=True)]
        return [
            self.tokenizer.encode(action_prompt(text, state), keep=False)
            for text, state in zip(batch.instruction, states, strict=True)
        ]

    def subtasks(self, batch: Batch) -> tuple[TextTokens, Tensor, Tensor]:
        """Sub-task text to read, and what to predict: (inputs [B, M], labels [B, M + 1], label mask bool [B, M + 1]).

        Labels are the text and then EOS; a sample without a sub-task has an all-False label mask.
        """
        device = batch.images.device
        ids = [self.tokenizer.encode(text) if text else [] for text in batch.subtask]
        labels = [[*row, EOS] if row else [] for row in ids]
        longest = max(1, *(len(row) for row in ids))
        inputs = TextTokens(*_pad(ids, device, longest))
        return inputs, *_pad(labels, device, longest + 1)

    @cached_property
    def action_dims(self) -> Tensor:
        """Bool [44]: dimensions the training data had and moved; the others are held at zero in the flow."""
        low, high = torch.tensor(self.normalisation.action.q01), torch.tensor(self.normalisation.action.q99)
        return (low != 0) | (high != 0)

    def actions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Normalised actions [B, S, 44] (0 where masked) and their mask."""
        if batch.actions.shape[1] != self.model.horizon:
            raise ValueError(
                f"model.horizon is {self.model.horizon}, but the data's window has {batch.actions.shape[1]} actions: "
                "set model.horizon and window.horizon alike"
            )
        mask = batch.action_mask & self.action_dims.to(batch.actions.device)
        return self.normalisation.normalise_action(batch.actions, mask), mask

    def physical(self, actions: Tensor) -> Tensor:
        """The network's actions [B, S, 44] in physical units; grippers within 0..1, absent dimensions 0."""
        actions = self.normalisation.unnormalise_action(actions) * self.action_dims.to(actions.device)
        for dim in ACTION_GRIPPER_DIMS:
            actions[..., dim] = actions[..., dim].clamp(0.0, 1.0)
        return actions

    def save(self, folder: Path) -> None:
        """Write config.json, processor.json, the tokenizer and the normalisation into a model folder."""
        self.model.save(folder / "config.json")
        self.tokenizer.save(folder)
        self.normalisation.save(folder)
        partial = folder / "processor.json.partial"
        partial.write_text(json.dumps({"cameras": list(self.cameras)}, indent=2))
        os.replace(partial, folder / "processor.json")

    @classmethod
    def load(cls, folder: Path) -> "Processor":
        """Read what `save` wrote."""
        path = folder / "processor.json"
        if not path.is_file():
            raise ValueError(f"{path} does not exist: give the `model` folder of a finished run of a student")
        raw = json.loads(path.read_text())
        return cls(
            Pi05Config.load(folder / "config.json"),
            PromptTokenizer.load(folder),
            Normalisation.load(folder),
            tuple(raw["cameras"]),
        )


def _pad(rows: list[list[int]], device: torch.device, length: int | None = None) -> tuple[Tensor, Tensor]:
    """Right-pad rows of ids to `length` or the longest: ids int64 [B, length] and their mask bool."""
    length = length or max(len(row) for row in rows)
    tokens = torch.tensor([row + [PAD] * (length - len(row)) for row in rows], dtype=torch.int64)
    counts = torch.tensor([len(row) for row in rows])
    return tokens.to(device), (torch.arange(length) < counts[:, None]).to(device)


def make_processor(
    model: Pi05Config,
    normalisation: Normalisation,
    cameras: Sequence[str],
    texts: Iterable[str],
    tokenizer: str | None = None,
    init_from: str | None = None,
) -> Processor:
    """A processor for training.

    The tokenizer is the file or folder `tokenizer` names, else the one of the run that `init_from` names (its
    embeddings mean nothing under another), else a small one trained from `texts`.
    """
    source = Path(tokenizer) if tokenizer else _tokenizer_of(init_from)
    chosen = PromptTokenizer.load(source) if source else PromptTokenizer.train(texts, model.vocab_size)
    return Processor(model, chosen, normalisation, tuple(cameras))


def _tokenizer_of(init_from: str | None) -> Path | None:
    if init_from is None:
        return None
    path = Path(init_from)
    if not path.exists():
        raise ValueError(f"init_from {path} does not exist: run the stage that makes it first, or correct the path")
    return path if path.is_dir() else path.parent
