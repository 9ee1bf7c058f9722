"""SIMPLER as data: robots, grids, protocols and cases. No simulator is imported here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.environments import python_of, simulators_folder
from eval.simpler import google, widowx
from eval.simpler.actions import RotationForm, StickyTrigger
from eval.simpler.assets import assets_folder, has_stage
from eval.simpler.install import MANISKILL_COMMIT, SIMPLER, renderer_folder
from eval.simpler.settings import Setting
from eval.suite import Case, Column

Robot = Literal["google", "widowx"]
Grid = Literal["visual_matching", "variant_aggregation", "camera_variants"]
Preset = Literal["octo", "openpi"]
Picture = Literal["as_recorded", "square"]


@dataclass(frozen=True)
class _Protocol:
    execute: int
    picture: "Picture"
    sticky_steps: int
    sticky_trigger: StickyTrigger


# Octo's own evaluation asks at every action; openpi-style policies carry out most of a chunk.
_PRESETS: dict[str, _Protocol] = {
    "octo": _Protocol(execute=1, picture="square", sticky_steps=15, sticky_trigger="step_change"),
    "openpi": _Protocol(execute=5, picture="as_recorded", sticky_steps=10, sticky_trigger="decided_change"),
}
_RATES = {"google": (3, 513), "widowx": (5, 500)}
# Height and width in the robots' data sets: Bridge's pictures are stretched to a square, RT-1's are not.
_RECORDED = {"google": (256, 320), "widowx": (256, 256)}
_SQUARE = (256, 256)


@dataclass(frozen=True)
class SimplerSuite:
    """One robot's grid; the fields are what a recipe's `suite.simpler` may say.

    Attributes:
        robot: "google" or "widowx".
        grid: "visual_matching" (photographs of the real room behind the robot), "variant_aggregation" (other tables,
            rooms, lights, cabinets; Google robot only) or "camera_variants" (played by SIMPLER, left out of its means).
        tasks: Some of the robot's; empty for all.
        leave_out: Names of settings not to play, or their first parts, as "background_bedroom".
        starts: Only the first of each setting's episodes; None for all. Then the counts are not the paper's.
        preset: "octo" or "openpi": where the next four come from when they are not given.
        execute: Actions of each chunk carried out before the policy is asked again.
        picture: What it is shown: the picture in its data set's size ("as_recorded": 256 x 256 for WidowX, 256 x 320
            for the Google robot, which a policy of ours then fits as its training did), or a "square" of 256.
        sticky_steps: Google robot: how often a decided gripper command is repeated.
        sticky_trigger: Google robot: what a gripper command is made of (see eval/simpler/actions.py).
        rotation: How the policy writes a change of rotation.
        max_steps: One limit for all tasks instead of SIMPLER's own; many reports give WidowX's four tasks 120.
        quoted: The reading tables quote: "final" (at the last step, as SIMPLER's own) or "any".
        stop_at_success: End an episode at its first success; only for `quoted: any`.
        shader: "as_published" ray-traces the drawer tasks, which takes a GPU; "rasteriser" draws all without.
    """

    robot: Robot
    grid: Grid = "visual_matching"
    tasks: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    starts: int | None = None
    preset: Preset = "octo"
    execute: int = 0
    picture: Picture | None = None
    sticky_steps: int = 0
    sticky_trigger: StickyTrigger | None = None
    rotation: RotationForm = "euler_xyz"
    max_steps: int | None = None
    quoted: Literal["final", "any"] = "final"
    stop_at_success: bool = False
    shader: Literal["as_published", "rasteriser"] = "as_published"

    simulator = "eval.simpler.simulator:SimplerSimulator"
    max_slots = 1  # 0.7 GB each, and the renderer is one

    def __post_init__(self) -> None:
        preset = _PRESETS[self.preset]
        for field in ("execute", "picture", "sticky_steps", "sticky_trigger"):
            if not getattr(self, field):
                object.__setattr__(self, field, getattr(preset, field))
        for field, least in {"execute": 1, "sticky_steps": 1, "starts": 1, "max_steps": 1}.items():
            if (value := getattr(self, field)) is not None and value < least:
                raise ValueError(f"{field}: {value} is too small; use {least} or more")
        self._check_choices()

    def _check_choices(self) -> None:
        if self.robot == "widowx" and self.grid != "visual_matching":
            raise ValueError(f"grid: {self.grid} is the Google robot's; WidowX has visual_matching only")
        if self.stop_at_success and self.quoted == "final":
            raise ValueError(
                "stop_at_success: the final reading needs the whole episode; quote `any`, or let episodes run"
            )
        known = {setting.task for setting in self._grid()}
        if unknown := sorted(set(self.tasks) - known):
            raise ValueError(f"tasks: {self.robot}'s {self.grid} has no {unknown}; choose from {sorted(known)}")
        names = {name for setting in self._grid() for name in _names(setting)}
        if unknown := sorted(set(self.leave_out) - names):
            raise ValueError(f"leave_out: there is no setting {unknown}; choose from {sorted(names)}")
        if not self.settings():
            raise ValueError("leave_out: nothing is left to play")

    @property
    def name(self) -> str:
        """What tables are made of."""
        return f"simpler_{self.robot}"

    @property
    def past_success(self) -> int | None:
        """0 where episodes end at their first success, None where they run to the limit."""
        return 0 if self.stop_at_success else None

    @property
    def options(self) -> dict[str, Any]:
        """What the simulator is made with."""
        control_hz, sim_hz = _RATES[self.robot]
        renderer = renderer_folder()
        return {
            "robot": self.robot,
            "assets": str(assets_folder(simulators_folder())),
            "renderer": str(renderer) if renderer.is_dir() else None,
            "ray_tracing": self.shader == "as_published" and any(s.ray_traced for s in self.settings()),
            "control_hz": control_hz,
            "sim_hz": sim_hz,
            "picture_size": list(self._picture_size),
            "rotation": self.rotation,
            "sticky_steps": self.sticky_steps,
            "sticky_trigger": self.sticky_trigger,
        }

    @property
    def protocol(self) -> dict[str, Any]:
        """Everything that decides the number beside the grid's cells, which are in the rows."""
        control_hz, sim_hz = _RATES[self.robot]
        google_only = {"sticky_steps": self.sticky_steps, "sticky_trigger": self.sticky_trigger}
        return {
            "name": self.preset,
            "grid": self.grid,
            "leave_out": sorted(self.leave_out),
            "starts": self.starts,
            "camera": "primary",
            "picture_size": list(self._picture_size),
            "resize": "stretched, Lanczos",
            "control_hz": control_hz,
            "sim_hz": sim_hz,
            "state": _STATE_CONVENTION[self.robot],
            "rotation": self.rotation,
            "gripper": "relative, +1 closes" if self.robot == "google" else "absolute, open above 0.5",
            **(google_only if self.robot == "google" else {}),
            "max_steps": {task: self.limit(task) for task in self._tasks()},
            "execute": self.execute,
            "past_success": self.past_success,
            "quoted": self.quoted,
            "shader": self.shader if any(s.ray_traced for s in self.settings()) else "rasteriser",
            "simulator": f"ManiSkill2_real2sim {MANISKILL_COMMIT[:7]}",
        }

    @property
    def state(self) -> Sequence[Column]:
        """As the robot's data set has it; ranges as the arm can reach."""
        position = [Column(f"eef_{axis}", "m", -0.3, 1.2) for axis in "xyz"]
        if self.robot == "widowx":
            angles = [Column(name, "rad", -3.1416, 3.1416) for name in ("roll", "pitch", "yaw")]
            return (*position, *angles, Column("gripper_opening", "1", 0.0, 1.0))
        quaternion = [Column(f"quaternion_{axis}", "1", -1.0, 1.0) for axis in "xyzw"]
        return (*position, *quaternion, Column("gripper_closedness", "1", 0.0, 1.0))

    @property
    def action(self) -> Sequence[Column]:
        """Changes in one control period, in the base frame; ranges as the robot's recordings reach."""
        far, turn = (0.25, 0.6) if self.robot == "google" else (0.05, 0.25)
        names = [f"delta_{n}" for n in ("roll", "pitch", "yaw")]
        if self.rotation == "axis_angle":
            names = [f"delta_axis_angle_{axis}" for axis in "xyz"]
        return (
            *(Column(f"delta_{axis}", "m", -far, far) for axis in "xyz"),
            *(Column(name, "rad", -turn, turn) for name in names),
            Column("gripper_opening", "1", 0.0, 1.0),
        )

    @property
    def _picture_size(self) -> tuple[int, int]:
        return _RECORDED[self.robot] if self.picture == "as_recorded" else _SQUARE

    def settings(self) -> list[Setting]:
        """The settings that are played."""
        return [
            setting
            for setting in self._grid()
            if (not self.tasks or setting.task in self.tasks) and not set(_names(setting)) & set(self.leave_out)
        ]

    def limit(self, task: str) -> int:
        """Actions an episode of this task has at most."""
        own = widowx.max_steps(task) if self.robot == "widowx" else google.max_steps(task)
        return own if self.max_steps is None else self.max_steps

    def python(self) -> Path:
        """The environment's interpreter; refuses settings whose rooms the assets do not hold."""
        python = python_of(SIMPLER)
        folder = assets_folder(simulators_folder())
        rooms = [setting for setting in self.settings() if not has_stage(folder, setting.build["scene_name"])]
        if missing := sorted({setting.name.split("/")[0] or setting.task for setting in rooms}):
            raise ValueError(
                f"leave_out: {folder} holds no room for the settings {missing} (stand-in assets leave some out); "
                f"write `leave_out: {missing}`, or use the official assets"
            )
        return python

    def cases(self) -> list[Case]:
        """Setting after setting, so that a simulator builds each scene once."""
        played = {(setting.task, setting.name) for setting in self.settings()}
        cases: list[Case] = []
        first = 0  # of a setting's seeds: the same whatever else is played
        for setting in self._grid():
            if (setting.task, setting.name) in played:
                cases += self._cases(setting, first)
            first += len(setting.starts)
        return cases

    def _cases(self, setting: Setting, first_seed: int) -> Iterator[Case]:
        robot = widowx.robot_of(setting.task) if self.robot == "widowx" else "google_robot_static"
        cell = f"{self.grid}/{setting.name}" if setting.name else self.grid
        for index, start in enumerate(setting.starts[: self.starts]):
            options = {
                "scene": setting.scene,
                "build": dict(setting.build),
                "robot": robot,
                "ray_traced": setting.ray_traced,
                "robot_xy": list(start.robot_xy),
                "robot_yaw": start.robot_yaw,
                "objects": dict(start.objects),
                "overlay": start.overlay,
            }
            limit = self.limit(setting.task)
            yield Case(self.name, setting.task, index, first_seed + index, limit, cell, options)

    def _grid(self) -> Iterator[Setting]:
        if self.robot == "widowx":
            return widowx.visual_matching()
        return {
            "visual_matching": google.visual_matching,
            "variant_aggregation": google.variant_aggregation,
            "camera_variants": google.camera_variants,
        }[self.grid]()

    def _tasks(self) -> list[str]:
        return list(dict.fromkeys(setting.task for setting in self.settings()))


_STATE_CONVENTION = {
    "widowx": "bridge: xyz m, roll pitch yaw rad from pointing down, base frame; opening 0..1 of the joints' range",
    "google": "fractal: xyz m, quaternion xyzw, base frame; closedness 0..1 of the joints' range",
}


def _names(setting: Setting) -> list[str]:
    """What `leave_out` may call it: "urdf_default/standing" and its first part."""
    first = setting.name.split("/")[0]
    return [first, setting.name] if first else []
