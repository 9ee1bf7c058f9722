"""The one noun every stage eats.

B samples, T frames, C cameras, H x W pixels, S action steps (the horizon), L latent tokens, D latent width,
P vision tokens a frame, F vision feature width.

    images         uint8   [B, T, C, 3, H, W]   RGB; T = 1 for the student, the window's frames for the teacher
    camera_mask    bool    [B, C]               False where a sample lacks that camera (its pixels are 0)
    state          float32 [B, 46]              unified space, physical units, at the window's first frame
    state_mask     bool    [B, 46]              dimensions this embodiment has and this sample may see
    actions        float32 [B, S, 44]           unified space, physical units
    action_mask    bool    [B, S, 44]           False: no such dimension, past the episode's end, or action-free
    instruction    list of B strings
    subtask        list of B strings            '' where the data set names none
    sample_ids     int64   [B]                  the sampler's global ids; every random draw is a function of them
    latents        float32 [B, L, D] or None    the teacher's, scene tokens first, if the mixture asks for them
    vision_features float16 [B, T, C, P, F] or None   cached output of a frozen vision tower, same frames as images
    states         float32 [B, T, 46] or None   states at every frame of the window, labelled or not (transitions.py)
    steps_mask     bool [B, S] or None          False where a step leaves the episode, whose end frame is held
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A mini-batch; see the legend at the top of this file for shapes, units and frames."""

    images: Tensor
    camera_mask: Tensor
    state: Tensor
    state_mask: Tensor
    actions: Tensor
    action_mask: Tensor
    instruction: list[str]
    subtask: list[str]
    sample_ids: Tensor
    latents: Tensor | None = None
    vision_features: Tensor | None = None
    states: Tensor | None = None
    steps_mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.sample_ids)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with every tensor on `device`."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, from which the copy to a GPU runs beside other work."""
        return self._with_tensors(Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: change(value) for name, value in values.items() if isinstance(value, Tensor)})
