"""`make` as ManiSkill2_real2sim has it, for scenes whose physics are one line: the hand goes where it is told.

The task is solved while the hand is more than 5 cm in x from where it began, and anew unsolved when it comes back, so
that the readings differ. The folder FAKE_FOLDER gets a line for each scene built and each episode begun, and may hold
`die` or `hang`, the scene and layout at which that happens once.
"""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

_SIZES = {"overhead_camera": (512, 640), "3rd_view_camera": (480, 640)}
_LIMITS = {"widowx": (0.015, 0.037), "google": (0.0, 1.3)}
_JOINTS = {
    "widowx": ["waist", "left_finger", "right_finger"],
    "google": ["joint_torso", "joint_finger_right", "joint_finger_left", "joint_head_tilt"],
}


def _note(line):
    with (Path(os.environ["FAKE_FOLDER"]) / "log.txt").open("a") as log:
        log.write(line + "\n")


def make(scene, as_gym=True, **kwargs):
    """A scene; one dressed as a gym would end by itself and is not what is asked for."""
    assert not as_gym
    assert "mani_skill2_real2sim.envs" in sys.modules  # the real registry imports in this order only
    return Scene(scene, kwargs)


class Scene:
    def __init__(self, name, kwargs):
        self.name, self.kwargs = name, kwargs
        self.robot_name = "widowx" if "widowx" in kwargs["robot"] else "google"
        self._obs_mode, self.drawn = kwargs["obs_mode"], 0
        self.rgb_overlay_img = None
        names, limits = _JOINTS[self.robot_name], _LIMITS[self.robot_name]
        robot = SimpleNamespace(
            get_active_joints=lambda: [SimpleNamespace(name=each) for each in names],
            get_qlimits=lambda: np.array([limits if "finger" in each else (-3.0, 3.0) for each in names], np.float32),
        )
        self.agent = SimpleNamespace(robot=robot)
        _note(f"built {name} process {os.getpid()} {sorted((k, str(v)) for k, v in kwargs.items())}")

    def reset(self, seed=None, options=None):
        options = options or {}
        self.options, self.steps, self.told = options, 0, []
        self.hand = np.array([0.3, 0.0, 0.15])
        self._cameras = {"base_camera": None, self._camera: None}
        where = f"{self.name} {options.get('obj_init_options', {}).get('episode_id')}"
        _note(f"reset {where} seed {seed} drawn {self._obs_mode}")
        self._misbehave(where)
        return self.get_obs(), {}

    def _misbehave(self, where):
        for deed, action in (("die", lambda: os._exit(9)), ("hang", lambda: time.sleep(60))):
            order = Path(os.environ["FAKE_FOLDER"]) / deed
            if order.is_file() and order.read_text() == where:
                order.unlink()
                action()

    @property
    def _base(self):
        """Half turned, as the real robots stand; wxyz."""
        return np.concatenate([self.options["robot_init_options"]["init_xy"], [0.87, 0.0, 0.0, 0.0, 1.0]])

    @property
    def tcp(self):
        """The hand in the world, pointing down."""
        place = self._base[:3] + [-self.hand[0], -self.hand[1], self.hand[2]]
        return SimpleNamespace(pose=SimpleNamespace(p=place, q=np.array([0.0, -0.70711, 0.0, 0.70711])))

    @property
    def _camera(self):
        return "3rd_view_camera" if self.robot_name == "widowx" else "overhead_camera"

    def step(self, action):
        assert action.dtype == np.float32
        assert action.shape == (7,)
        self.steps += 1
        self.hand = self.hand + action[:3]
        self.told.append([round(float(each), 5) for each in action[3:]])
        success = self.hand[0] > 0.35
        info = {
            "elapsed_steps": self.steps,
            "success": np.bool_(success),
            "told": self.told,
            "episode_stats": {"qpos": "0.125", "is_grasped": np.bool_(False), "drawn": self.drawn},
        }
        return self.get_obs(), 0.0, bool(success), False, info

    def get_obs(self):
        if self._obs_mode == "none":
            return {}
        self.drawn += 1
        joints = [0.0 if "finger" not in each else 0.026 for each in _JOINTS[self.robot_name]]
        height, width = _SIZES[self._camera]
        color = np.full((height, width, 4), self.hand[0] / 2, np.float32)
        if self.rgb_overlay_img is not None:
            color[: height // 2, :, :3] = self.rgb_overlay_img[0, 0]
        return {
            "agent": {"qpos": np.array(joints, np.float32), "base_pose": self._base.astype(np.float32)},
            "extra": {},  # as the drawers' is
            "image": {name: {"Color": color} for name in self._cameras},
        }

    def get_language_instruction(self):
        return "do it" if self.steps < 100 else "do the other thing"

    def get_sim_state(self):
        return self.hand.copy()

    def set_sim_state(self, state):
        self.hand = state

    def close(self):
        """Nothing is held."""
