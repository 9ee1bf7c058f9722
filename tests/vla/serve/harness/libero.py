"""A benchmark of the public harness's kind that simulates nothing: what it sends follows from task, episode and step.

It takes LIBERO's place on the wire (the server knows benchmarks by the folder they are imported from), and writes down
every action it is given.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from vla_eval.benchmarks.base import StepBenchmark, StepResult

CAMERAS = {"agentview": 0, "wrist": 1}


def picture(camera: str, task: int, episode: int, step: int) -> np.ndarray:
    """uint8 [48, 64, 3]: noise, so that no two are alike and nothing lossy goes unseen."""
    return np.random.default_rng([CAMERAS[camera], task, episode, step]).integers(0, 256, (48, 64, 3), np.uint8)


def state(task: int, episode: int, step: int) -> np.ndarray:
    """float64 [8], as robosuite's are."""
    return np.random.default_rng([2, task, episode, step]).normal(size=8)


class FakeLibero(StepBenchmark):
    """Two tasks; an episode ends after `steps` and succeeds if `solved` says so."""

    def __init__(
        self,
        log: str,
        steps: int = 12,
        send_wrist_image: bool = False,
        send_state: bool = False,
        quat_no_antipodal: bool = False,
    ) -> None:
        super().__init__()
        self._log, self._steps = Path(log), steps
        self._sends = {"wrist": send_wrist_image, "state": send_state, "no_antipodal": quat_no_antipodal}
        self._at = (0, 0, 0)
        self._actions: list[list[float]] = []

    def get_tasks(self) -> list[dict[str, Any]]:
        return [{"name": f"put away thing {n}", "suite": "fake", "task_id": n, "task_obj": object()} for n in (0, 1)]

    def reset(self, task: dict[str, Any]) -> Any:
        self._at, self._actions = (task["task_id"], task["episode_idx"], 0), []
        return None

    def step(self, action: dict[str, Any]) -> StepResult:
        assert action["actions"].dtype == np.float32
        self._actions.append(action["actions"].tolist())
        self._at = (*self._at[:2], self._at[2] + 1)
        done = self._at[2] == self._steps
        if done:
            line = {"task": self._at[0], "episode": self._at[1], "sends": self._sends, "actions": self._actions}
            with self._log.open("a") as log:
                log.write(json.dumps(line) + "\n")
        return StepResult(None, 0.0, done, {})

    def make_obs(self, raw_obs: Any, task: dict[str, Any]) -> dict[str, Any]:
        images = {"agentview": picture("agentview", *self._at)}
        if self._sends["wrist"]:
            images["wrist"] = picture("wrist", *self._at)
        sent: dict[str, Any] = {"images": images, "task_description": task["name"]}
        if self._sends["state"]:
            sent |= {"states": state(*self._at), "controller_states": np.zeros(8, np.float32)}
        return sent

    def get_step_result(self, step_result: StepResult) -> dict[str, Any]:
        return {"success": bool(self._at[0] == 0)}

    def get_metadata(self) -> dict[str, Any]:
        return {"max_steps": 50}

    def get_action_spec(self) -> dict[str, Any]:
        return {}

    def get_observation_spec(self) -> dict[str, Any]:
        return {}
