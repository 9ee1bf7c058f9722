"""A rank that trains the real stages at nano size: started by vla/train's launch.py.

python stages_worker.py '[{"run": "/folder", "stage": "lam", "loop": {...}, "parallel": {...}}, ...]'
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import draccus
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "vla" / "models" / "pi05"))
from students import ACTION_DIMS, LATENT, STATE_DIMS, SUBTASKS, TASKS, normalisation, tiny_config  # noqa: E402  # pyright: ignore[reportMissingImports]

from data_mixtures.batch import Batch  # noqa: E402
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM  # noqa: E402
from distill.stage import DistillConfig, DistillStage  # noqa: E402
from lam.clam.config import DecoderConfig  # noqa: E402
from lam.latbot.config import GroundingConfig, nano  # noqa: E402
from lam.latbot.stage import LatBotStage, tokenizer_for  # noqa: E402
from vla.models.pi05.stage import ActionConfig, ActionStage  # noqa: E402
from vla.train.config import LoopConfig, OptimConfig, ParallelConfig  # noqa: E402
from vla.train.distributed import leave  # noqa: E402
from vla.train.loop import train  # noqa: E402
from vla.train.stage import Stage  # noqa: E402


class RandomWindows:
    """Windows of noise, each a function of its id, with whatever a stage may ask of a batch."""

    def __init__(self, frames: int, pixels: int, horizon: int) -> None:
        self.frames, self.pixels, self.horizon = frames, pixels, horizon

    def batch(self, sample_ids: Sequence[int]) -> Batch:
        size = len(sample_ids)
        images, state, actions, latents = (torch.stack(rows) for rows in zip(*map(self._row, sample_ids), strict=True))
        state_mask = torch.zeros(size, STATE_DIM, dtype=torch.bool)
        state_mask[:, STATE_DIMS] = True
        action_mask = torch.zeros(size, self.horizon, ACTION_DIM, dtype=torch.bool)
        action_mask[..., ACTION_DIMS] = True
        return Batch(
            images=images,
            camera_mask=torch.ones(size, 1, dtype=torch.bool),
            state=state * state_mask,
            state_mask=state_mask,
            actions=actions * action_mask,
            action_mask=action_mask,
            instruction=[TASKS[i % 3] for i in sample_ids],
            subtask=[SUBTASKS[i % 3] for i in sample_ids],
            sample_ids=torch.tensor(list(sample_ids)),
            latents=latents,
        )

    def _row(self, sample_id: int) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(sample_id)
        shape = (self.frames, 1, 3, self.pixels, self.pixels)
        actions = torch.rand(self.horizon, ACTION_DIM, generator=generator) * 0.06 - 0.02
        actions[:, 6] = (actions[:, 6] > 0.01).float()
        return (
            torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
            torch.rand(STATE_DIM, generator=generator) - 0.5,
            actions,
            torch.randn(LATENT.num_tokens, LATENT.width, generator=generator),
        )


def stage_of(name: str, objective: dict) -> tuple[Stage, RandomWindows]:
    """A stage by its name in a recipe, and windows of the size it takes; `objective` holds fields of stage 3's."""
    student = RandomWindows(frames=1, pixels=16, horizon=4)
    if name == "lam":
        # With CLAM's grounding there is one part more to place; without it, it is the same stage.
        config = replace(nano(), grounding=GroundingConfig(decoder=DecoderConfig(16, (24,))))
        windows = RandomWindows(config.num_frames, config.vision.image_size, config.horizon)
        return LatBotStage(config, normalisation(), tokenizer_for(config, TASKS)), windows
    if name == "distill":
        texts = [*TASKS, *SUBTASKS]
        return DistillStage(DistillConfig(model=tiny_config()), normalisation(), ["front"], texts), student
    chosen = replace(draccus.decode(ActionConfig, objective), model=tiny_config())
    texts, windows = [*TASKS, *SUBTASKS], [student.batch(range(8))]
    return ActionStage(chosen, normalisation(), ["front"], texts, windows=windows), student


def run(job: dict) -> None:
    stage, windows = stage_of(job["stage"], job.get("objective", {}))
    loop, parallel = LoopConfig(**job["loop"]), ParallelConfig(**job["parallel"])
    train(stage, windows, loop, OptimConfig(lr=1e-3), parallel, Path(job["run"]))


if __name__ == "__main__":
    for job in json.loads(sys.argv[1]):
        run(job)
    leave()
