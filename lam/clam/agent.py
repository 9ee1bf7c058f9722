"""A trained policy as the rollout engine and a robot call it: raw observations in, raw actions out (algorithm 2)."""

import json
from collections.abc import Sequence
from pathlib import Path

import draccus
import numpy as np
import torch

from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from lam.clam.config import EncoderConfig, PolicyConfig
from lam.clam.model import Sizes
from lam.clam.policy import ClonedPolicy, LatentSizes
from lam.clam.policy_files import POLICY_FILE, is_cloned
from vla.observation import Observation
from vla.train.export import load_weights


class ClonedAgent:
    """Acts with a policy of stage 2.

    Args:
        policy: With its weights.
        robot: Whose numbers it takes and gives.

    Attributes:
        cameras: None: it looks at states.
        horizon: Actions of a chunk.
        state_dim: Numbers of an observation's state.
        action_dim: Numbers of an action.
    """

    cameras: tuple[str, ...] = ()

    def __init__(self, policy: ClonedPolicy, robot: Embodiment) -> None:
        self.policy, self.robot = policy.eval().requires_grad_(False), robot
        self.horizon = policy.config.chunk_size
        self.state_dim, self.action_dim = robot.state_width, robot.action_width

    @classmethod
    def from_pretrained(cls, folder: Path, device: str = "cpu") -> "ClonedAgent":
        """Load the `model` folder of a policy's run.

        Raises:
            ValueError: It holds none, or one whose robot nothing describes.
        """
        if not is_cloned(folder):
            raise ValueError(f"{folder} holds no {POLICY_FILE}: give the `model` folder of a policy's run")
        saved = json.loads((folder / POLICY_FILE).read_text())
        if saved["robot"] is None:
            raise ValueError(
                f"{folder} was trained on data whose robot nothing describes: give its data set an `embodiment`"
            )
        latent = None if saved["latent"] is None else draccus.decode(LatentSizes, saved["latent"])
        features = None if saved.get("features") is None else draccus.decode(EncoderConfig, saved["features"])
        with torch.device("meta"):
            config, sizes = draccus.decode(PolicyConfig, saved["policy"]), draccus.decode(Sizes, saved["sizes"])
            policy = ClonedPolicy(config, sizes, latent, features)
        load_weights(policy, folder, device)
        return cls(policy, draccus.decode(Embodiment, saved["robot"]))

    @torch.inference_mode()
    def act_many(self, observations: Sequence[Observation], seeds: Sequence[int]) -> np.ndarray:
        """Chunks float32 [n, horizon, action_dim] in the robot's own units; nothing is drawn, seeds change nothing.

        Raises:
            ValueError: A state of another length, or not finite.
        """
        raw = np.stack([np.asarray(observation.state, np.float32) for observation in observations])
        if raw.shape[1:] != (self.state_dim,) or not np.isfinite(raw).all():
            raise ValueError(f"state has shape {list(raw.shape[1:])}: give {self.state_dim} finite numbers")
        states = self.robot.to_unified_state(raw)
        assert states.shape[1] == STATE_DIM
        policy = self.policy
        actions = policy.act(torch.from_numpy(states).to(policy.standard.mean.device)).cpu().numpy()
        unified = np.zeros((*actions.shape[:2], ACTION_DIM), np.float32)
        unified[..., policy.standard.action_columns] = actions
        return self.robot.action_from_unified(unified).astype(np.float32)
