"""Meta-World as the engine plays it: runs in a simulator's process."""

from collections import OrderedDict
from collections.abc import Sequence
from importlib import metadata
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from eval.metaworld.episode import SIMULATOR_STEP_HZ, CompiledTask, MetaWorldEpisode, Observation, Snapshot
from eval.metaworld.renderer import CAMERAS
from eval.suite import Case, Film, Success, View

# Compiled tasks kept although none of their episodes is under way: 0.3 s and about 50 MB each.
_KEPT = 2

# Every second decision is filmed (13 pictures a second, real time): drawing is most of a film's cost.
_STRIDE = 2


class PlayedEpisode:
    """An episode and the moments it has been through."""

    def __init__(self, compiled: CompiledTask, episode: MetaWorldEpisode, cameras: Sequence[str], size: int) -> None:
        self._compiled, self._episode = compiled, episode
        self._cameras, self._size = tuple(cameras), size
        self._snapshots: list[Snapshot] = []

    def view(self) -> View:
        """Pictures drawn now, if any, the state [4 or 39] and the instruction."""
        episode = self._episode
        images = {camera: self._compiled.render(episode, camera, self._size) for camera in self._cameras}
        return View(images, episode.state, episode.task.instruction)

    def step(self, action: NDArray[np.float32]) -> Success:
        """One decision: the command [4] held for its simulator steps."""
        self._snapshots.append(self._episode.snapshot())
        self._episode.step(action)
        return Success(self._episode.success_now, self._episode.success_any)

    def expert(self) -> NDArray[np.float32]:
        """The scripted expert's command [4]."""
        return self._episode.expert_command()

    def readings(self) -> dict[str, Any]:
        """Nothing beside success."""
        return {}

    def film(self, size: int) -> Film:
        """The moments before every second decision, from the first camera, or `corner` where none is shown."""
        camera = (*self._cameras, CAMERAS[0])[0]
        frames = []
        for snapshot in self._snapshots[::_STRIDE]:
            self._episode.show(snapshot)
            frames.append(self._compiled.render(self._episode, camera, size))
        return Film(np.stack(frames), SIMULATOR_STEP_HZ / self._compiled.action_repeat / _STRIDE)


class MetaWorldSimulator:
    """Keeps the tasks it played last compiled.

    Args:
        cameras: What a view shows; the first one is filmed.
        image_size: Pixels a side of a view's pictures.
        observation: What a view's state is.
        action_repeat: Simulator steps of a decision.
    """

    def __init__(self, cameras: list[str], image_size: int, observation: Observation, action_repeat: int) -> None:
        self._cameras, self._size = cameras, image_size
        self._observation: Observation = observation
        self._action_repeat = action_repeat
        self._tasks: OrderedDict[str, CompiledTask] = OrderedDict()
        self._alive: dict[str, WeakSet[PlayedEpisode]] = {}

    def facts(self) -> dict[str, str]:
        """Meshes are a part of the package, so it is what decides the pictures."""
        names = ("metaworld", "mujoco", "gymnasium")
        return {name: metadata.version(name) for name in names} | {"assets": "own"}

    def episode(self, case: Case) -> PlayedEpisode:
        """A fresh episode, its initial state drawn with the case's seed."""
        compiled = self._compiled(case.task)
        played = PlayedEpisode(compiled, compiled.episode(case.seed), self._cameras, self._size)
        self._alive[case.task].add(played)
        return played

    def _compiled(self, task: str) -> CompiledTask:
        if task not in self._tasks:
            idle = [name for name in self._tasks if not self._alive[name]]
            for name in idle[: max(0, len(self._tasks) + 1 - _KEPT)]:
                self._tasks.pop(name).close()
            self._tasks[task] = CompiledTask(task, self._action_repeat, self._observation)
            self._alive.setdefault(task, WeakSet())
        self._tasks.move_to_end(task)
        return self._tasks[task]

    def close(self) -> None:
        """Free the renderers."""
        for compiled in self._tasks.values():
            compiled.close()
        self._tasks.clear()
