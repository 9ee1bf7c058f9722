"""LIBERO behind eval/suite.py's interface; runs in LIBERO's own environment."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.libero.assets import assets_kind
from eval.libero.tasks import instruction_of
from eval.libero.upstream import load_upstream, versions
from eval.suite import Case, Film, Success, View

_FILM_STRIDE = 2


class LiberoSimulator:
    """Holds the compiled task of one process; cases come task after task.

    Args:
        assets: Folder of meshes and textures.
        image_size: Pixels a side of what is shown.
        settle_steps: Steps before the first view.
        gripper: What an action's last value means, as in eval/libero/protocols.py.
    """

    def __init__(self, assets: str, image_size: int, settle_steps: int, gripper: str) -> None:
        self._assets = Path(assets)
        self._upstream = load_upstream(self._assets)
        self._image_size, self._settle_steps = image_size, settle_steps
        self._opens_at_one = gripper == "1 opens, 0 closes"
        self._task: Any = None
        self._renderer: Any = None

    def facts(self) -> dict[str, str]:
        """Versions, the OpenGL backend, and whose assets these are."""
        return {**versions(), "assets": assets_kind(self._assets)}

    def episode(self, case: Case) -> "LiberoEpisode":
        """A fresh episode, settled; nothing of an earlier one survives in it, and no earlier one may be used again."""
        from eval.libero.task import SETTLING_ACTION

        self._compile(case.suite, case.task)
        if case.options.get("scattered"):  # as demonstrations begin
            self._task.scatter(case.seed)
        else:
            self._task.start(case.init, case.seed, int(case.options["resets"]))
        for _ in range(self._settle_steps):
            self._task.step(SETTLING_ACTION)
        return LiberoEpisode(self._task, self._renderer, self._image_size, self._opens_at_one)

    def _compile(self, suite: str, task: str) -> None:
        # They import mujoco, which reads once, at its import, how it is to draw; `load_upstream` has chosen.
        from eval.libero.drawing import Renderer
        from eval.libero.task import Task

        if self._task is not None and (self._task.suite, self._task.name) == (suite, task):
            return
        self.close()
        self._task = Task(self._upstream, suite, task)
        self._renderer = Renderer(self._task.model)

    def close(self) -> None:
        """Free the compiled task and its OpenGL context."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = self._task = None


class LiberoEpisode:
    """One episode under way, settled. Made by `LiberoSimulator.episode`.

    Args:
        task: Compiled, in the episode's first state.
        renderer: Of its model.
        image_size: Pixels a side of both pictures.
        opens_at_one: The policy's gripper value is 1 open, 0 closed, instead of -1 open, +1 closed.
    """

    def __init__(self, task: Any, renderer: Any, image_size: int, opens_at_one: bool) -> None:
        self.task, self.renderer = task, renderer
        self._image_size, self._opens_at_one = image_size, opens_at_one
        self._ever = False
        self._expert: Any = None
        self._course = [task.seen.snapshot]

    def view(self) -> View:
        """Both pictures, the state and the instruction."""
        snapshot, state = self.task.seen
        images = {camera: self.renderer.draw(snapshot, camera, self._image_size) for camera in ("image", "wrist_image")}
        return View(images, state, instruction_of(self.task.name))

    def step(self, action: NDArray[np.float32]) -> Success:
        """Carry out one command [7] for 50 ms."""
        command = np.array(action, dtype=np.float64)
        if self._opens_at_one:
            command[6] = -np.sign(2 * command[6] - 1)
        self.task.step(command)
        now = self.task.success()
        self._ever = self._ever or now
        self._course.append(self.task.seen.snapshot)
        return Success(now, self._ever)

    def expert(self) -> NDArray[np.float32]:
        """The scripted expert's command now."""
        from eval.libero.experts.expert import Expert
        from eval.libero.experts.scene import Scene

        if self._expert is None:
            self._expert = Expert(Scene(self.task.env))
        command = self._expert.action()
        if self._opens_at_one:
            command[6] = (1 - command[6]) / 2
        return command

    def readings(self) -> dict[str, Any]:
        """Nothing beside success."""
        return {}

    def film(self, size: int) -> Film:
        """Both cameras side by side, every second step."""
        moments = self._course[::_FILM_STRIDE]
        if self._course[-1] is not moments[-1]:
            moments.append(self._course[-1])
        frames = [
            np.concatenate([self.renderer.draw(moment, camera, size) for camera in ("image", "wrist_image")], axis=1)
            for moment in moments
        ]
        return Film(np.stack(frames), 20.0 / _FILM_STRIDE)
