"""From a Batch to the network's tensors and back: the one definition training and inference share."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from draccus.utils import DecodingError
from torch import Tensor
from torch.nn import functional as F

from data_mixtures.batch import Batch
from data_mixtures.sampling.augmentation import centre_cropped
from data_mixtures.spaces.embodiments import Embodiment, embodiment_from
from data_mixtures.spaces.unified import ACTION_DIM
from data_mixtures.statistics.normalisation import Normalisation
from data_mixtures.storage.json_object import read_object
from data_mixtures.storage.whole_file import write_whole
from vla.models.pi05.config import Pi05Config
from vla.models.pi05.images import Augmentation, absent_black, augment_images, resize_with_pad, to_unit_range
from vla.models.pi05.model import Prefix, TextTokens
from vla.models.pi05.prompt import action_prompt, discretise_state, subtask_prompt
from vla.models.pi05.tokenizer import EOS, PAD, PromptTokenizer

Task = Literal["action", "subtask"]

SIZES_FILE, PROCESSOR_FILE = "pi05.json", "processor.json"


@dataclass(frozen=True)
class Processor:
    """Transforms around the network; saved beside its weights.

    Attributes:
        model: Sizes of the network it feeds.
        tokenizer: For prompts and sub-tasks.
        normalisation: Between physical units and the network's.
        cameras: Names of the cameras, in the order the network was trained with.
        robot: Whose columns the states and actions are made of; None where it was trained on several.
        frame_size: Pixels of a side of the frames it was trained on, into which the data set's were fitted; None for a
            published checkpoint, whose frames of any size go through `resize_with_pad` alone.
        subtask_after: The prompt that sub-tasks were learned to follow, and are asked for with.
        centre_crop: Camera -> share of a side its frames are cut to when the policy acts, about their middle; cameras
            that are not named are shown whole.
    """

    model: Pi05Config
    tokenizer: PromptTokenizer
    normalisation: Normalisation
    cameras: tuple[str, ...]
    robot: Embodiment | None = None
    frame_size: int | None = None
    subtask_after: Task = "subtask"
    centre_crop: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tokenizer.vocab_size > self.model.vocab_size:
            raise ValueError(
                f"model.vocab_size {self.model.vocab_size} is smaller than the tokenizer's {self.tokenizer.vocab_size} "
                "tokens: raise model.vocab_size"
            )
        width = self.model.action_dim
        if width > ACTION_DIM:
            raise ValueError(f"model.action_dim is {width}: a Batch's actions have {ACTION_DIM} dimensions")
        if beyond := self._moved[width:].nonzero().flatten().tolist():
            raise ValueError(
                f"model.action_dim is {width}, but the data's actions also have the dimensions "
                f"{[width + dim for dim in beyond]}: set model.action_dim to at least {width + beyond[-1] + 1}"
            )

    def prefix(self, batch: Batch, task: Task, augment: Augmentation | None = None, seed: int = 0) -> Prefix:
        """What the network observes: the first frame, the instruction, and for `action` prompts the state.

        Cameras that no sample of the batch has are dropped, and the text is padded to the longest in the batch only.
        """
        present = batch.camera_mask.any(0)
        present[0] = True  # the tower always gets something: a batch without any camera reads one masked image
        frames = batch.images[:, 0, present]
        images = frames if frames.is_floating_point() else to_unit_range(frames)
        batch_size, cameras = images.shape[:2]
        images = resize_with_pad(images.flatten(0, 1), self.model.vision.image_size)
        images = images.unflatten(0, (batch_size, cameras))
        if augment is not None or self.centre_crop:
            shown = [name for name, there in zip(self.cameras, present.tolist(), strict=True) if there]
            if augment is None:
                images = self._cropped(images, shown)
            else:
                images = augment_images(images, batch.sample_ids, shown, augment, seed)
        images = absent_black(images, batch.camera_mask[:, present])
        limit = self.model.max_text_tokens
        ids = [self.tokenizer.with_bos(prompt, limit) for prompt in self._prompts(batch, task)]
        tokens, mask = _pad(ids, images.device)
        return Prefix(images, batch.camera_mask[:, present], tokens, mask)

    def _cropped(self, images: Tensor, shown: Sequence[str]) -> Tensor:
        """Images [B, C, 3, H, W] of the cameras `shown`, cut as `centre_crop` says."""
        pictures = zip(images.unbind(1), (self.centre_crop.get(name, 1.0) for name in shown), strict=True)
        return torch.stack([one if crop == 1 else centre_cropped(one, crop) for one, crop in pictures], dim=1)

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

    @property
    def _moved(self) -> Tensor:
        low, high = torch.tensor(self.normalisation.action.q01), torch.tensor(self.normalisation.action.q99)
        return (low != 0) | (high != 0)

    @cached_property
    def action_dims(self) -> Tensor:
        """Bool [A]: dimensions the training data had and moved; the others are held at zero in the flow."""
        return self._moved[: self.model.action_dim]

    def actions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Normalised actions [B, S, A] (0 where masked) and their mask: the first A of a Batch's 44 dimensions."""
        if batch.actions.shape[1] != self.model.horizon:
            raise ValueError(
                f"model.horizon is {self.model.horizon}, but the data's window has {batch.actions.shape[1]} actions: "
                "set model.horizon and window.horizon alike"
            )
        return self.normalised(batch.actions, batch.action_mask)

    def normalised(self, actions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Actions [..., 44] in physical units and their mask -> the network's [..., A], 0 where masked, and mask."""
        width = self.model.action_dim
        mask = mask & self._moved.to(actions.device)
        return self.normalisation.normalise_action(actions, mask)[..., :width], mask[..., :width]

    def physical(self, actions: Tensor) -> Tensor:
        """The network's actions [B, S, A] -> [B, S, 44] in physical units; grippers in 0..1, absent dimensions 0."""
        actions = F.pad(actions, (0, ACTION_DIM - actions.shape[-1]))
        actions = self.normalisation.unnormalise_action(actions) * self._moved.to(actions.device)
        for dim in self.normalisation.kept_action:
            actions[..., dim] = actions[..., dim].clamp(0.0, 1.0)
        return actions

    def save(self, folder: Path) -> None:
        """Write pi05.json (sizes), processor.json, the tokenizer and the normalisation into a model folder."""
        self.model.save(folder / SIZES_FILE)
        self.tokenizer.save(folder)
        self.normalisation.save(folder)
        words = {
            "cameras": self.cameras,
            "frame_size": self.frame_size,
            "subtask_after": self.subtask_after,
            "centre_crop": dict(self.centre_crop),
            "robot": None if self.robot is None else asdict(self.robot),
        }
        write_whole(folder / PROCESSOR_FILE, json.dumps(words, indent=2))

    @classmethod
    def load(cls, folder: Path) -> "Processor":
        """Read what `save` wrote."""
        path = folder / PROCESSOR_FILE
        if not path.is_file():
            raise ValueError(f"{path} does not exist: give the `model` folder of a finished run of a student")
        words = _words(path)
        return cls(
            model=Pi05Config.load(folder / SIZES_FILE),
            tokenizer=PromptTokenizer.load(folder),
            normalisation=Normalisation.load(folder),
            **words,
        )


def _words(path: Path) -> dict[str, Any]:
    """What processor.json says; ValueError names the file and the field that cannot be."""
    raw = read_object(path, "copy the model folder whole")

    def need(name: str, right: bool, wanted: str) -> None:
        if name not in raw or not right:
            raise ValueError(f"{path}: {name} is {raw.get(name, 'missing')!r}, but must be {wanted}")

    cameras, robot, size = raw.get("cameras"), raw.get("robot"), raw.get("frame_size")
    names = cameras if isinstance(cameras, list) else []
    right = bool(names) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    need("cameras", right, "a list of different names")
    need("robot", robot is None or isinstance(robot, dict), "an object or null")
    need("frame_size", size is None or (type(size) is int and size > 0), "a whole number from 1 on, or null")
    need("subtask_after", raw.get("subtask_after") in ("action", "subtask"), "'action' or 'subtask'")
    crop = raw.setdefault("centre_crop", {})  # checkpoints of before it existed show whole frames
    shares = list(crop.values()) if isinstance(crop, dict) and crop.keys() <= set(names) else [None]
    right = all(isinstance(share, float) and 0 < share <= 1 for share in shares)
    need("centre_crop", right, "a share of a side, above 0 and at most 1, for each camera that is cropped")
    try:
        embodiment = None if robot is None else embodiment_from(robot)
    except (ValueError, DecodingError) as error:
        raise ValueError(f"{path}: robot cannot be read ({error}); copy the model folder whole") from error
    return {
        "cameras": tuple(names),
        "robot": embodiment,
        "frame_size": size,
        "subtask_after": raw["subtask_after"],
        "centre_crop": crop,
    }


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
    robot: Embodiment | None = None,
    frame_size: int | None = None,
) -> Processor:
    """A processor for training.

    The tokenizer is the file or folder `tokenizer` names, else the one of the run that `init_from` names (its
    embeddings mean nothing under another), else a small one trained from `texts`.
    """
    source = Path(tokenizer) if tokenizer else _tokenizer_of(init_from)
    chosen = PromptTokenizer.load(source) if source else PromptTokenizer.train(texts, model.vocab_size)
    return Processor(model, chosen, normalisation, tuple(cameras), robot, frame_size)


def _tokenizer_of(init_from: str | None) -> Path | None:
    if init_from is None:
        return None
    path = Path(init_from)
    if not path.exists():
        raise ValueError(f"init_from {path} does not exist: run the stage that makes it first, or correct the path")
    return path if path.is_dir() else path.parent
