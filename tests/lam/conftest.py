"""A nano teacher, and windows of a square that moves: actions are its velocity, the background its scene."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from data_mixtures.batch import Batch
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from data_mixtures.statistics.normalisation import Normalisation, Quantiles
from lam.latbot.config import LatBotConfig, nano
from lam.latbot.model import LatBot
from lam.latbot.stage import LatBotStage, tokenizer_for

TASKS = ["push the square", "leave the square alone"]


def moving_squares(config: LatBotConfig, sample_ids: list[int], labelled: float = 1.0) -> Batch:
    """One window a sample id; the square's step is in [-1, 1] x 2 pixels x 32 / image size over the window."""
    rows = [_window(config, sample_id) for sample_id in sample_ids]
    images, step = torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])
    actions = torch.zeros(len(rows), config.horizon, ACTION_DIM)
    actions[..., :2] = step[:, None]
    seen = torch.tensor([((i * 2654435761) % 100) < 100 * labelled for i in sample_ids])
    mask = torch.zeros_like(actions, dtype=torch.bool)
    mask[..., :2] = seen[:, None, None]
    state_mask = torch.zeros(len(rows), STATE_DIM, dtype=torch.bool)
    return Batch(
        images=images,
        camera_mask=torch.ones(len(rows), 1, dtype=torch.bool),
        state=torch.zeros(len(rows), STATE_DIM),
        state_mask=state_mask,
        actions=actions,
        action_mask=mask,
        instruction=[TASKS[i % 2] for i in sample_ids],
        subtask=[""] * len(rows),
        sample_ids=torch.tensor(sample_ids),
    )


def _window(config: LatBotConfig, sample_id: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sample_id)
    side = config.vision.image_size
    background = torch.randint(40, 120, (3, 1, 1), generator=generator)
    start = torch.randint(side // 4, side // 2, (2,), generator=generator)
    step = torch.rand(2, generator=generator) * 2 - 1
    frames = background.expand(config.num_frames, 1, 3, side, side).clone()
    for index in range(config.num_frames):
        moved = start + step * (side / 4) * index / (config.num_frames - 1)
        row, column = (int(v) for v in moved.round())
        frames[index, 0, :, row : row + side // 4, column : column + side // 4] = 230
    return frames.to(torch.uint8), step


def identity_normalisation() -> Normalisation:
    """Maps physical units to themselves."""
    action, state = (
        Quantiles((-1.0,) * ACTION_DIM, (1.0,) * ACTION_DIM),
        Quantiles((-1.0,) * STATE_DIM, (1.0,) * STATE_DIM),
    )
    return Normalisation(state=state, action=action)


def materialise(stage: LatBotStage, seed: int = 0) -> LatBot:
    """What the training loop does: build on meta, fill parameter by parameter, recompute buffers."""
    with torch.device("meta"):
        model = stage.build()
    model.to_empty(device="cpu")
    with torch.no_grad():
        for index, (name, value) in enumerate(model.state_dict().items()):
            value.copy_(stage.init_parameter(name, value.shape, torch.Generator().manual_seed(seed + index)))
        stage.init_buffers(model)
    return model


@pytest.fixture
def squares() -> Callable[..., Batch]:
    return moving_squares


@pytest.fixture
def make_stage() -> Callable[..., LatBotStage]:
    def make(config: LatBotConfig | None = None, seed: int = 0) -> LatBotStage:
        config = config or nano()
        return LatBotStage(config, identity_normalisation(), tokenizer_for(config, TASKS), seed)

    return make


@pytest.fixture
def make_model() -> Callable[..., LatBot]:
    return materialise
