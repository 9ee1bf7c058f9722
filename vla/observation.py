"""What is shown to a policy, whichever it is; importing it costs nothing, where a policy brings its model along."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Observation:
    """What a robot sees, once.

    Attributes:
        images: Camera name -> uint8 [H, W, 3] RGB of any size; a camera the policy knows may be missing.
        state: float32 [state_dim], the robot's own columns, in its order and units.
        instruction: What is to be done.
        before: What it saw at the actions before this one, oldest first, as far as a policy looks back
            (`frame_stack`); fewer where the episode is younger.
    """

    images: dict[str, np.ndarray]
    state: np.ndarray
    instruction: str
    before: "tuple[Observation, ...]" = ()
