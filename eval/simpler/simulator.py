"""The simulator's side of SIMPLER: runs in its own Python, with ManiSkill2_real2sim and SAPIEN 2.

`simpler_env.make` is not used: it draws the robot's look and the photograph at random and overrides what it is given.
Scenes are built as SIMPLER's evaluation scripts build them, from what the case says.
"""

import os
from collections.abc import Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.simpler.actions import AbsoluteGripper, Gripper, StickyGripper, controller_action
from eval.simpler.assets import assets_kind, photograph
from eval.simpler.pictures import fitted, read_photograph, scaled_to_height, uint8_rgb
from eval.simpler.poses import half_turned_wxyz
from eval.simpler.renderer import draw_on_cpu
from eval.simpler.states import bridge_state, fractal_state
from eval.suite import Case, Episode, Film, SpentProcess, Success, View

# What every episode of SIMPLER's scripts draws from (only where distractors stand): a fresh scene's first draw.
RESET_SEED = int(np.random.RandomState(2022).randint(2**32))

_ROBOTS: dict[str, dict[str, Any]] = {
    "google": {
        "control_mode": (
            "arm_pd_ee_delta_pose_align_interpolate_by_planner_gripper_pd_joint_target_delta_pos_interpolate_by_planner"
        ),
        "camera": "overhead_camera",
    },
    "widowx": {
        "control_mode": "arm_pd_ee_target_delta_pose_align2_gripper_pd_joint_pos",
        "camera": "3rd_view_camera",
    },
}


class SimplerSimulator:
    """One scene a process: what SAPIEN's renderer holds of a closed one is never all given back, and it can hang.

    Args:
        robot: "google" or "widowx".
        assets: Folder of meshes and photographs.
        renderer: Folder that `vla setup simpler` made for drawing on the CPU; None where a GPU draws.
        ray_tracing: Whether settings that SIMPLER ray-traces are; False draws all with the rasteriser.
        control_hz: Actions a second.
        sim_hz: Physics steps a second.
        picture_size: Height and width of what a policy is shown.
        rotation: How a policy writes a change of rotation.
        sticky_steps: How long the Google robot's gripper repeats a command.
        sticky_trigger: What starts it.
    """

    def __init__(
        self,
        robot: str,
        assets: str,
        renderer: str | None,
        ray_tracing: bool,
        control_hz: int,
        sim_hz: int,
        picture_size: tuple[int, int],
        rotation: Any,
        sticky_steps: int,
        sticky_trigger: Any,
    ) -> None:
        if renderer is not None and ray_tracing:
            raise ValueError(
                "shader: ray tracing does not finish on a CPU; set `shader: rasteriser` (the result's protocol then "
                "says so), or use a GPU"
            )
        self._robot, self._assets = robot, Path(assets)
        self._ray_tracing, self._control_hz, self._sim_hz = ray_tracing, control_hz, sim_hz
        self._picture_size, self._rotation = picture_size, rotation
        self._sticky = (sticky_steps, sticky_trigger)
        self._drawn_by = draw_on_cpu(Path(renderer)) if renderer is not None else "GPU"
        os.environ["MS2_REAL2SIM_ASSET_DIR"] = str(self._assets)
        import_module("mani_skill2_real2sim.envs")  # registers the scenes; must come before the registry itself
        self._make = import_module("mani_skill2_real2sim.utils.registration").make
        self._scene: Any = None
        self._built: tuple[Any, ...] = ()

    def facts(self) -> dict[str, str]:
        """Versions, commit, what draws, and whose assets."""
        versions = {name: version for name in ("sapien", "gymnasium", "numpy") if (version := _version(name))}
        package = Path(import_module("mani_skill2_real2sim").__file__ or "").parents[1]
        commit = package / "commit.txt"
        return {
            **versions,
            "maniskill2_real2sim": commit.read_text().strip() if commit.is_file() else "unknown",
            "drawn_by": self._drawn_by,
            "assets": assets_kind(self._assets),
        }

    def episode(self, case: Case) -> Episode:
        """Build the case's scene at the first, and place robot and objects.

        Raises:
            SpentProcess: another scene stands here.
        """
        options = case.options
        key = (options["scene"], repr(sorted(options["build"].items())), options["robot"])
        if self._built and key != self._built:
            raise SpentProcess(f"{options['scene']} wants a process of its own")
        if not self._built:
            self._scene, self._built = self._build(options), key
        scene = self._scene
        if options["overlay"] is not None:
            scene.rgb_overlay_img = read_photograph(photograph(self._assets, options["overlay"]))
        scene._obs_mode = "none"  # a step otherwise draws its pictures, three quarters of its time on a CPU
        scene.reset(seed=RESET_SEED, options=_reset_options(options))
        gripper = AbsoluteGripper() if self._robot == "widowx" else StickyGripper(*self._sticky)
        return SimplerEpisode(self, scene, gripper)

    def _build(self, options: Mapping[str, Any]) -> Any:
        build = dict(options["build"])
        if options["ray_traced"] and self._ray_tracing:
            build["shader_dir"] = "rt"
        if options["overlay"] is not None:
            build["rgb_overlay_path"] = str(photograph(self._assets, options["overlay"]))
            build["rgb_overlay_cameras"] = [self.camera]
        return self._make(
            options["scene"],
            as_gym=False,
            obs_mode="image",
            robot=options["robot"],
            sim_freq=self._sim_hz,
            control_freq=self._control_hz,
            control_mode=_ROBOTS[self._robot]["control_mode"],
            # Positions of pixels are left out: nothing reads them, and copying them takes a quarter of a picture.
            # In this order: the second adds to what the first sets.
            camera_cfgs={"texture_names": ("Color",), "add_segmentation": True},
            **build,
        )

    @property
    def camera(self) -> str:
        """The simulator's name of the camera policies look through."""
        return _ROBOTS[self._robot]["camera"]

    def controller_action(self, action: NDArray[np.float32], gripper: Gripper) -> NDArray[np.float32]:
        """A policy's action in the controller's terms."""
        return controller_action(action, self._rotation, gripper)

    def picture(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A camera's picture as policies are shown it."""
        return fitted(rgb, *self._picture_size)

    def state(self, scene: Any, observed: Mapping[str, Any]) -> NDArray[np.float32]:
        """The robot's state as its data set has it."""
        # The drawers' observations have no `tcp_pose`, so the hand's is read from the scene in all tasks.
        hand = np.concatenate([scene.tcp.pose.p, scene.tcp.pose.q])
        base, joints = observed["agent"]["base_pose"], observed["agent"]["qpos"]
        as_recorded = bridge_state if self._robot == "widowx" else fractal_state
        return as_recorded(base, hand, joints, _joint_names(scene), scene.agent.robot.get_qlimits())

    @property
    def control_hz(self) -> int:
        """Actions a second."""
        return self._control_hz

    def close(self) -> None:
        """Close the scene."""
        if self._scene is not None:
            self._scene.close()


class SimplerEpisode:
    """One episode; the simulator's scene is its own until the next one begins."""

    def __init__(self, simulator: SimplerSimulator, scene: Any, gripper: Gripper) -> None:
        self._simulator, self._scene, self._gripper = simulator, scene, gripper
        self._ever = False
        self._readings: dict[str, Any] = {}
        self._moments = [scene.get_sim_state()]

    def view(self) -> View:
        """Draw now. Long tasks change their instruction on the way, so it is read anew."""
        observed = self._observe()
        rgb = uint8_rgb(observed["image"][self._simulator.camera]["Color"])
        state = self._simulator.state(self._scene, observed)
        return View({"primary": self._simulator.picture(rgb)}, state, self._scene.get_language_instruction())

    def step(self, action: NDArray[np.float32]) -> Success:
        """One control period."""
        told = self._simulator.controller_action(action, self._gripper)
        *_, info = self._scene.step(told)
        now = bool(info["success"])
        self._ever = self._ever or now
        self._readings = {"info": _plain(info), "steps_simulated": int(info["elapsed_steps"])}
        self._moments.append(self._scene.get_sim_state())
        return Success(now, self._ever)

    def expert(self) -> NDArray[np.float32]:
        """There is none."""
        raise NotImplementedError("SIMPLER has no scripted expert")

    def readings(self) -> dict[str, Any]:
        """What the simulator said at the last step: grasped, moved, drawer's opening, ..."""
        return self._readings

    def film(self, size: int) -> Film:
        """Every moment drawn again, from the simulator's recorded states."""
        frames = []
        for moment in self._moments:
            self._scene.set_sim_state(moment)
            rgb = uint8_rgb(self._observe()["image"][self._simulator.camera]["Color"])
            frames.append(scaled_to_height(rgb, size))
        return Film(np.stack(frames), float(self._simulator.control_hz))

    def _observe(self) -> Mapping[str, Any]:
        self._scene._cameras.pop("base_camera", None)  # drawn by default and shown to nobody
        self._scene._obs_mode = "image"
        try:
            return self._scene.get_obs()
        finally:
            self._scene._obs_mode = "none"


def _reset_options(options: Mapping[str, Any]) -> dict[str, Any]:
    robot = {
        "init_xy": np.array(options["robot_xy"], np.float64),
        "init_rot_quat": half_turned_wxyz(options["robot_yaw"]),
    }
    objects = {
        name: np.array(value, np.float64) if name == "init_xy" else value for name, value in options["objects"].items()
    }
    return {"robot_init_options": robot, **({"obj_init_options": objects} if objects else {})}


def _joint_names(scene: Any) -> list[str]:
    return [joint.name for joint in scene.agent.robot.get_active_joints()]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _plain(value: Any) -> Any:
    """As JSON has it: numpy's scalars as numbers, numbers that travel as text (a drawer's opening) too."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value if isinstance(value, bool | int | float) or value is None else str(value)
