"""A trained policy as the rollout engine and a robot call it: raw observations in, raw actions out (algorithm 2)."""

import json
from collections.abc import Sequence
from pathlib import Path

import draccus
import numpy as np
import torch

from data_mixtures.spaces.embodiments import Embodiment
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from data_mixtures.storage.frames import fit_square
from lam.clam.config import EncoderConfig, LamConfig, PolicyConfig
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
        cameras: Names of those it looks through.

    Attributes:
        cameras: As given; none where it looks at states.
        frame_stack: Moments it looks at: this one and, in `Observation.before`, those before it.
        horizon: Actions of a chunk.
        state_dim: Numbers of an observation's state.
        action_dim: Numbers of an action.
    """

    def __init__(self, policy: ClonedPolicy, robot: Embodiment, cameras: Sequence[str] = ()) -> None:
        self.policy, self.robot = policy.eval().requires_grad_(False), robot
        self.cameras = tuple(cameras)
        self.frame_stack, self.horizon = policy.config.frame_stack, policy.config.horizon
        self.state_dim, self.action_dim = robot.state_width, robot.action_width
        self._image_size = policy.sizes.image_size

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
        parts = {"latent": LatentSizes, "features": EncoderConfig, "lam": LamConfig}
        given = {name: draccus.decode(kind, saved[name]) for name, kind in parts.items() if saved.get(name) is not None}
        with torch.device("meta"):
            config, sizes = draccus.decode(PolicyConfig, saved["policy"]), draccus.decode(Sizes, saved["sizes"])
            policy = ClonedPolicy(config, sizes, given.get("latent"), given.get("features"), given.get("lam"))
        load_weights(policy, folder, device)
        return cls(policy, draccus.decode(Embodiment, saved["robot"]), saved.get("cameras", ()))

    @torch.inference_mode()
    def act_many(self, observations: Sequence[Observation], seeds: Sequence[int]) -> np.ndarray:
        """Chunks float32 [n, horizon, action_dim] in the robot's own units; nothing is drawn, seeds change nothing.

        Raises:
            ValueError: A state of another length, or not finite; a picture that is missing, or is none.
        """
        moments = [moment for observation in observations for moment in self._moments(observation)]
        raw = np.stack([np.asarray(moment.state, np.float32) for moment in moments])
        if raw.shape[1:] != (self.state_dim,) or not np.isfinite(raw).all():
            raise ValueError(f"state has shape {list(raw.shape[1:])}: give {self.state_dim} finite numbers")
        states = self.robot.to_unified_state(raw)
        assert states.shape[1] == STATE_DIM
        images = np.stack([self._pictures(moment) for moment in moments])
        policy, stacked = self.policy, (len(observations), self.frame_stack)
        device = policy.standard.mean.device
        seen = [torch.from_numpy(part).to(device).unflatten(0, stacked) for part in (states, images)]
        actions = policy.act(*seen).cpu().numpy()
        unified = np.zeros((*actions.shape[:2], ACTION_DIM), np.float32)
        unified[..., policy.standard.action_columns] = actions
        return self.robot.action_from_unified(unified).astype(np.float32)

    def _moments(self, observation: Observation) -> list[Observation]:
        """The frame stack, oldest first: before an episode's start its first moment is held, as in training."""
        seen = [*observation.before, observation][-self.frame_stack :]
        return [seen[0]] * (self.frame_stack - len(seen)) + seen

    def _pictures(self, moment: Observation) -> np.ndarray:
        """uint8 [cameras, 3, size, size] as training made them."""
        size = self._image_size
        pictures = np.zeros((len(self.cameras), 3, size, size), np.uint8)
        for place, camera in enumerate(self.cameras):
            frame = moment.images.get(camera)
            if frame is None:
                raise ValueError(f"images lack {camera!r}: this policy looks through {list(self.cameras)}")
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
                raise ValueError(f"images[{camera!r}] must be uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}")
            pictures[place] = fit_square(frame[None], size)[0]
        return pictures
