"""A world a few numbers wide, known exactly: points that go where actions push them, and a dimension of their own."""

import numpy as np
import torch

from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.spaces.recorded_columns import RecordedColumns
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from data_mixtures.transitions import Trajectories

STATES, ACTIONS = 3, 2
ROBOT = Embodiment("pushed_point", recorded=RecordedColumns(list(range(STATES)), list(range(ACTIONS))))


def pushed_points(seed: int, episodes: int = 8, length: int = 20) -> Trajectories:
    """o = (x, y, constant); x and y move by a tenth of the actions, uniform in [-1, 1]."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (episodes, length, ACTIONS)).astype(np.float32)
    moved = np.cumsum(0.1 * actions, axis=1)
    points = np.concatenate([np.zeros((episodes, 1, ACTIONS), np.float32), moved[:, :-1]], axis=1)
    points += rng.normal(size=(episodes, 1, ACTIONS)).astype(np.float32)
    states = np.zeros((episodes * length, STATE_DIM), np.float32)
    states[:, :2], states[:, 2] = points.reshape(-1, 2), 5.0
    padded = np.zeros((episodes * length, ACTION_DIM), np.float32)
    padded[:, :ACTIONS] = actions.reshape(-1, ACTIONS)
    return Trajectories(
        states=torch.from_numpy(states),
        state_mask=torch.arange(STATE_DIM) < STATES,
        actions=torch.from_numpy(padded),
        action_mask=torch.arange(ACTION_DIM) < ACTIONS,
        images=torch.zeros(episodes * length, 0, 3, 0, 0, dtype=torch.uint8),
        first=torch.arange(0, episodes * length + 1, length),
        robot=ROBOT,
        control_hz=10.0,
    )
