"""Meta-World with the gripper's command and the pictures turned round: runs in a simulator's process."""

import numpy as np

from eval.metaworld.simulator import MetaWorldSimulator, PlayedEpisode
from eval.suite import Case, Success, View


class WrongEpisode(PlayedEpisode):
    """Closes where it should open, and shows everything upside down."""

    def step(self, action: np.ndarray) -> Success:
        return super().step(action * np.array([1, 1, 1, -1], dtype=np.float32))

    def view(self) -> View:
        view = super().view()
        images = {name: np.ascontiguousarray(image[::-1, ::-1]) for name, image in view.images.items()}
        return View(images, view.state, view.instruction)


class WrongMetaWorld(MetaWorldSimulator):
    """Of such episodes."""

    def episode(self, case: Case) -> PlayedEpisode:
        played = super().episode(case)
        played.__class__ = WrongEpisode
        return played
