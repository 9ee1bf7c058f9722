"""A small arm over a table, for tests: no physics, two painted cameras, and every fault of the field on request.

An action is a change of the hand's position (a raw 1 is 5 cm) and rotation (axis-angle, a raw 1 is 0.5 rad), and the
gripper (-1 open, 1 closed). Solved once the block was gripped with the hand turned as the block is, and lifted.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from eval.suite import Case, Column, Film, Success, View

RATE_HZ, SIZE = 20.0, 48
STEP_M, STEP_RAD = 0.05, 0.5
_HOME = np.array([0.35, 0.0, 0.30])
_DOWN = Rotation.from_rotvec([np.pi, 0, 0])
_NEAR_M, _NEAR_RAD, _LIFTED_M = 0.02, 0.25, 0.15
_FORWARD = (0.1, 0.2, 0.35, 0.6)  # where the wrist camera's light is

STATE = (
    *(Column(f"eef_{axis}", "m", -2.0, 2.0) for axis in "xyz"),
    *(Column(f"axis_angle_{axis}", "rad", -2 * np.pi, 2 * np.pi) for axis in "xyz"),
    Column("gripper_opening", "1", 0.0, 1.0),
)
ACTION = (
    *(Column(f"delta_{axis}", "0.05 m", -1.0, 1.0) for axis in "xyz"),
    *(Column(f"delta_axis_angle_{axis}", "0.5 rad", -1.0, 1.0) for axis in "xyz"),
    Column("gripper", "-1 open, 1 closed", -1.0, 1.0),
)


class ToyEpisode:
    """One episode; `faults` are the names of what goes wrong in this simulator."""

    def __init__(self, case: Case, faults: frozenset[str], rng: np.random.Generator) -> None:
        self.faults, self._held = faults, 0
        seed = int(rng.integers(1 << 30)) if "random placement" in faults else case.seed
        seed = 0 if "one initial state" in faults else seed
        own = np.random.default_rng(seed)
        self.block = np.array([own.uniform(0.4, 0.6), own.uniform(-0.2, 0.2), 0.02])
        self.turn = own.uniform(0.5, 1.1, 3) * own.choice([-1, 1], 3)  # large, so that conventions show
        self.position = _HOME + own.uniform(-0.05, 0.05, 3)
        self.rotation = _DOWN * Rotation.from_rotvec(own.uniform(-0.3, 0.3, 3))
        self.target = Rotation.from_rotvec(self.turn) * self.rotation
        self.closed, self.gripped, self.solved = 0.0, False, False
        self.steps, self.hurried = 0, case.seed % 12 == 4

    def view(self) -> View:
        return View(self._images(), self._state(), "lift the block")

    def _state(self) -> np.ndarray:
        quaternion = self.rotation.as_quat()  # xyzw; with the sign a simulator happens to have: x > 0 here
        quaternion = -quaternion if quaternion[0] < 0 else quaternion
        angle = 2 * np.arctan2(np.linalg.norm(quaternion[:3]), quaternion[3])
        vector = quaternion[:3] / max(float(np.linalg.norm(quaternion[:3])), 1e-9) * angle
        position, opening = self.position.copy(), 1 - self.closed
        if "antipodal state" in self.faults:
            vector = self.rotation.as_rotvec()
        if "euler state" in self.faults:
            vector = Rotation.from_rotvec(vector).as_euler("xyz")
        if "turned hand" in self.faults:
            turned = (self.rotation * Rotation.from_rotvec([0, 0, np.pi / 2])).as_rotvec()
            vector = turned * (1 - 2 * np.pi / np.linalg.norm(turned))
        if "world frame" in self.faults:
            position = position + [-0.6, 0.1, 0.9]
        if "gripper state flipped" in self.faults:
            opening = 1 - opening
        if "metres gripper" in self.faults:
            opening = 0.04 * opening
        state = np.concatenate([position, vector, [opening]]).astype(np.float32)
        return np.zeros_like(state) if "no state" in self.faults else state

    def _images(self) -> dict[str, np.ndarray]:
        rows, columns = np.mgrid[0:SIZE, 0:SIZE] / SIZE
        front = np.stack([60 + 150 * rows, 40 + 60 * columns, 30 + 0 * rows], axis=-1)
        x, y = (self.block[:2] - [0.3, -0.3]) / [0.4, 0.6]
        front[(np.abs(rows - x) < 0.06) & (np.abs(columns - y) < 0.06)] = [20, 220, 40]
        hand = (self.position[:2] - [0.3, -0.3]) / [0.4, 0.6]
        front[(np.abs(rows - hand[0]) < 0.05) & (np.abs(columns - hand[1]) < 0.05)] = [230, 230, 230]
        wrist = np.stack([90 * columns, 70 + 100 * (1 - rows), 180 - 120 * rows * columns], axis=-1)
        images = {"front": front, "wrist": wrist}
        if "swapped cameras" in self.faults:
            images = {"front": wrist, "wrist": front}
        if "dark" in self.faults:
            images = {name: 0.6 * image for name, image in images.items()}
        drawn = {name: image.clip(0, 255).astype(np.uint8) for name, image in images.items()}
        if "rotated" in self.faults:
            drawn = {name: image[::-1, ::-1] for name, image in drawn.items()}
        if "bgr" in self.faults:
            drawn = {name: image[..., ::-1] for name, image in drawn.items()}
        if "cropped" in self.faults:
            drawn = {name: image[5:-5, 5:-5] for name, image in drawn.items()}
        if "renamed camera" in self.faults:
            drawn["agentview"] = drawn.pop("front")
        if "no wrist" in self.faults:
            drawn.pop("wrist")
        return {name: np.ascontiguousarray(image) for name, image in drawn.items()}

    def step(self, action: np.ndarray) -> Success:
        move, turn, grip = action[:3] * STEP_M, action[3:6] * STEP_RAD, float(action[6])
        rotation = Rotation.from_rotvec(turn)
        for fault in ("gripper flipped", "gripper flipped again"):
            grip = -grip if fault in self.faults else grip
        if "threshold 0.8" in self.faults:
            grip = 1.0 if grip > 0.8 else -1.0
        if "euler actions" in self.faults:
            rotation = Rotation.from_euler("xyz", turn)
        if "absolute actions" in self.faults:
            move, rotation = move - self.position, rotation * self.rotation.inv()
        if "double steps" in self.faults:
            move, rotation = 2 * move, rotation * rotation
        self.position = self.position + move
        self.rotation = rotation * self.rotation
        speed = 0.26 if "slow gripper" in self.faults else 0.5
        self.closed = float(np.clip(self.closed + speed * np.sign(grip), 0, 1))
        self.steps += 1
        if self.closed == 1 and not self.gripped:
            near = np.linalg.norm(self.position - self.block) < _NEAR_M
            aligned = (self.target.inv() * self.rotation).magnitude() < _NEAR_RAD
            self.gripped = bool(near and aligned)
        if self.closed < 1:
            self.gripped = False
        if self.gripped:
            self.block = self.position.copy()
        now = self.gripped and bool(self.position[2] > _LIFTED_M)
        self.solved = self.solved or now
        return Success(now, self.solved)

    def expert(self) -> np.ndarray:
        action = np.zeros(7, dtype=np.float32)
        left = (self.target * self.rotation.inv()).as_rotvec()
        above = self.block - self.position
        aligned = np.linalg.norm(left) < 0.05 and np.linalg.norm(above) < 0.008
        action[6] = 1.0 if self.gripped or aligned or self.closed > 0 else -1.0
        if self.gripped:
            action[2] = 0.8
        elif self.closed == 0 and not aligned:
            most = 1.0 if self.hurried and self.steps == 0 else 0.6  # a few commands lie far beyond the others
            action[:3] = np.clip(above / STEP_M, -most, most)
            # A share of the whole turn about its own axis, the most a command can ask for.
            action[3:6] = left / max(1.0, float(np.abs(left / STEP_RAD).max())) / STEP_RAD
        return action

    def readings(self) -> dict[str, Any]:
        return {"block_height_m": float(self.block[2])}

    def film(self, size: int) -> Film:
        return Film(np.zeros((1, size, size, 3), dtype=np.uint8), RATE_HZ)


class ToySimulator:
    def __init__(self, faults: list[str]) -> None:
        self._faults, self._rng = frozenset(faults), np.random.default_rng()

    def facts(self) -> dict[str, str]:
        return {"toy": "1", "assets": "own"}

    def episode(self, case: Case) -> ToyEpisode:
        return ToyEpisode(case, self._faults, self._rng)

    def close(self) -> None: ...


@dataclass(frozen=True)
class ToySuite:
    """A suite with faults of its own on request: of the simulator through `faults`, the rest through the fields."""

    faults: tuple[str, ...] = ()
    name: str = "toy"
    execute: int = 8
    past_success: int | None = 4
    quoted: str = "any"
    max_steps: int = 60
    control_hz: float = RATE_HZ
    state: tuple[Column, ...] = STATE
    action: tuple[Column, ...] = ACTION
    more: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2, 3)

    simulator = "toy:ToySimulator"
    max_slots = 2

    @property
    def options(self) -> dict[str, Any]:
        return {"faults": list(self.faults)}

    @property
    def protocol(self) -> dict[str, Any]:
        words = {"name": "toy", "execute": self.execute, "control_hz": self.control_hz, "quoted": self.quoted}
        return words | {"past_success": self.past_success, "cameras": ["front", "wrist"], **self.more}

    def python(self) -> Path:
        return Path(sys.executable)

    def cases(self) -> list[Case]:
        return [Case(self.name, "lift", seed, seed, self.max_steps) for seed in self.seeds]


def played(seed: int) -> tuple[list[View], np.ndarray]:
    """One expert episode in a simulator without faults: a view before each action, and the actions [T, 7]."""
    episode = ToySimulator([]).episode(replace(ToySuite().cases()[0], seed=seed, init=seed))
    views, actions = [], []
    while not episode.solved:
        views.append(episode.view())
        actions.append(episode.expert())
        episode.step(actions[-1])
        assert len(actions) < 60, "the expert of the toy is broken"
    return views, np.stack(actions)
