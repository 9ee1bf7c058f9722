"""From a model folder to actions: what a robot or a simulator calls."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_mixtures.batch import Batch
from data_mixtures.spaces.unified import ACTION_DIM
from vla.models.pi05.generate import generate_text
from vla.models.pi05.model import Pi05
from vla.models.pi05.processor import Processor
from vla.models.pi05.sample import sample_actions
from vla.nn.randomness import normal_like_ids
from vla.train.export import load_weights

_NOISE = 401


@dataclass(frozen=True)
class Observation:
    """What a robot sees, once.

    images: camera name -> uint8 [H, W, 3] RGB; a camera the policy knows may be missing.
    state: float32 [46], unified space, physical units; state_mask: bool [46], the dimensions the robot has.
    """

    images: dict[str, np.ndarray]
    state: np.ndarray
    state_mask: np.ndarray
    instruction: str


@dataclass
class Policy:
    """A trained student with the transforms it was trained under."""

    model: Pi05
    processor: Processor
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str = "cpu") -> "Policy":
        """Load a run's `model` folder."""
        folder = Path(folder)
        processor = Processor.load(folder)
        with torch.device("meta"):
            model = Pi05(processor.model)
        load_weights(model, folder, device)
        return cls(model.eval().requires_grad_(False), processor, torch.device(device))

    @torch.inference_mode()
    def act(self, observations: Sequence[Observation], seeds: Sequence[int]) -> np.ndarray:
        """Action chunks float32 [n, S, 44] in the unified space and physical units; absent dimensions are 0.

        Each observation's noise follows from its own seed, so what it is batched with changes nothing but rounding.
        """
        if len(observations) != len(seeds):
            raise ValueError(f"seeds has {len(seeds)} entries for {len(observations)} observations: give one each")
        batch = self._batch(observations)
        shape = (self.processor.model.horizon, ACTION_DIM)
        noise = normal_like_ids(torch.tensor(seeds), shape, 0, _NOISE).to(self.device)
        noise = noise * self.processor.action_dims.to(self.device)
        actions = sample_actions(self.model, self.processor.prefix(batch, "action"), noise)
        return self.processor.physical(actions).cpu().numpy()

    @torch.inference_mode()
    def generate(self, observations: Sequence[Observation], max_tokens: int = 32) -> list[str]:
        """The sub-task the student would name for each observation, by greedy decoding."""
        prefix = self.processor.prefix(self._batch(observations), "subtask")
        return [self.processor.tokenizer.decode(row) for row in generate_text(self.model, prefix, max_tokens)]

    def _batch(self, observations: Sequence[Observation]) -> Batch:
        """Observations as the Batch training saw; frames of different sizes are padded to one."""
        images, camera_mask = self._images(observations)
        count, horizon = len(observations), self.processor.model.horizon
        return Batch(
            images=images,
            camera_mask=camera_mask,
            state=torch.from_numpy(np.stack([o.state for o in observations]).astype(np.float32)),
            state_mask=torch.from_numpy(np.stack([o.state_mask for o in observations]).astype(bool)),
            actions=torch.zeros(count, horizon, ACTION_DIM),
            action_mask=torch.zeros(count, horizon, ACTION_DIM, dtype=torch.bool),
            instruction=[o.instruction for o in observations],
            subtask=[""] * count,
            sample_ids=torch.arange(count),
        ).to(self.device)

    def _images(self, observations: Sequence[Observation]) -> tuple[Tensor, Tensor]:
        cameras = self.processor.cameras
        frames = [frame for o in observations for frame in o.images.values()]
        if not frames:
            raise ValueError(f"observations hold no image; this policy looks through {list(cameras)}")
        sizes = {frame.shape for frame in frames}
        if len(sizes) > 1 or frames[0].dtype != np.uint8:
            raise ValueError(f"images must be uint8 [H, W, 3] of one size, got {sorted(sizes)} {frames[0].dtype}")
        images = np.zeros((len(observations), 1, len(cameras), *frames[0].shape), np.uint8)
        mask = np.zeros((len(observations), len(cameras)), bool)
        for row, observation in enumerate(observations):
            unknown = observation.images.keys() - set(cameras)
            if unknown:
                raise ValueError(f"images name the cameras {sorted(unknown)}; this policy knows {list(cameras)}")
            for name, frame in observation.images.items():
                index = cameras.index(name)
                images[row, 0, index], mask[row, index] = frame, True
        return torch.from_numpy(images.transpose(0, 1, 2, 5, 3, 4).copy()), torch.from_numpy(mask)
