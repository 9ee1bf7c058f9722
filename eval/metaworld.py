"""Meta-World episodes: seeding that works, action repeat, the scripted expert, snapshots and fast pictures.

Facts this file is built on (metaworld 3.1.1, mujoco 3.3.0): `reset(seed=)` is ignored, so the environment's own
switches are set and `seed()` is called; a compiled model is copied in 20 ms where parsing the XML takes 250-380;
rendering at 64 px is bound by geometry (65,000 triangles of robot arm, mostly out of view), so geoms outside the
camera's frustum are hidden first, which changes no pixel.
"""

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.gl_backend import select_gl_backend
from eval.metaworld_tasks import MetaWorldTask, metaworld_task

ACTION_REPEAT = 3
"""Simulator steps a decision lasts."""

SIMULATOR_STEP_HZ = 80
"""Meta-World's control rate: 5 physics steps of 2.5 ms."""

DECISION_HZ = SIMULATOR_STEP_HZ / ACTION_REPEAT
"""Decisions per simulated second, 26.7."""

CAMERAS = ("corner", "wrist")
"""`corner`: a free camera above the table's corner; `wrist`: the model's gripperPOV."""

# Meta-World's own "corner2" leaves objects 2-4 px wide at 64 px and is upside-down; this free camera shows them at
# 10-20 px, upright. Degrees, degrees, metres, metres.
_CORNER_AZIMUTH, _CORNER_ELEVATION, _CORNER_DISTANCE, _CORNER_LOOKAT = 135.0, -35.0, 1.1, (0.0, 0.63, 0.12)

_HIDDEN_GROUP = 5

_FIXED_BODIES = ("world", "tablelink", "RetainingWall")


@dataclass(frozen=True)
class Snapshot:
    """What is needed to draw a moment again: positions, and where goal markers were put."""

    qpos: NDArray[np.float64]
    mocap_pos: NDArray[np.float64]
    mocap_quat: NDArray[np.float64]
    sites: tuple[tuple[str, NDArray[np.float64]], ...]


class MetaWorldEpisode:
    """One seeded episode of one task. Made by `CompiledTask.episode`.

    Attributes:
        task: The row of the task table.
        seed: The seed its initial state was drawn from.
        decisions: Decisions taken so far.
        success_any: Whether Meta-World's `info["success"]` held at any simulator step so far.
        success_now: Whether it held at the last simulator step.
        touched: Whether the robot touched an object at any simulator step of the last decision.
    """

    def __init__(self, task: MetaWorldTask, seed: int, environment: Any, expert: Any) -> None:
        self.task, self.seed = task, seed
        self._environment, self._expert = environment, expert
        self.model, self.data = environment.model, environment.data
        self.decisions, self.success_any, self.success_now = 0, False, False
        self.touched = False
        self._privileged = self._reset()
        self._robot_geoms, self._object_geoms = self._robot_and_object_geoms()

    def _reset(self) -> NDArray[np.float64]:
        environment = self._environment
        # What set_task would do, less the frozen random vector.
        environment._partially_observable = False
        environment._set_task_called = True
        environment._freeze_rand_vec = False
        environment.seeded_rand_vec = True
        # Cached while goals were hidden; the observation is clipped to it.
        environment.__dict__.pop("sawyer_observation_space", None)
        environment.seed(self.seed)
        environment.reset()
        return self._settled_observation()

    def _settled_observation(self) -> NDArray[np.float64]:
        """The privileged observation [39] at the start, with objects where the seed put them.

        `reset` moves bodies in the model and returns without recomputing where that puts them: its observation, and
        a picture drawn then, show the positions of the draw before.
        """
        import mujoco

        environment = self._environment
        mujoco.mj_forward(self.model, self.data)
        for name, position in environment._target_site_config:
            self.data.site(name).xpos[:] = position
        observation = environment._get_obs()
        environment._prev_obs = observation[:18].copy()
        observation[18:36] = environment._prev_obs
        return observation

    def _robot_and_object_geoms(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which geoms are the robot's, and which belong to neither it nor the floor, the table and the walls."""
        model = self.model
        roots = model.body_rootid[model.geom_bodyid]
        fixed = [i for i in range(model.nbody) if model.body(i).name in _FIXED_BODIES]
        robot = roots == model.body_rootid[model.body("hand").id]
        return robot, ~robot & ~np.isin(roots, model.body_rootid[fixed])

    @property
    def state(self) -> NDArray[np.float32]:
        """Raw `observation.state` [4]: end-effector xyz (m, world frame), gripper opening (0 closed .. 1 open)."""
        return self._environment._get_curr_obs_combined_no_goal()[:4].astype(np.float32)

    def _in_contact(self) -> bool:
        """Whether the robot touches an object now."""
        pairs = self.data.contact.geom[: self.data.ncon]
        robot, objects = self._robot_geoms[pairs], self._object_geoms[pairs]
        return bool((robot & objects[:, ::-1]).any())

    def expert_command(self) -> NDArray[np.float32]:
        """The scripted expert's command [4] for the present state, clipped to +-1 (it reaches 11 unclipped)."""
        with warnings.catch_warnings():
            # It warns at every command the environment will clip, which is most of them.
            warnings.simplefilter("ignore")
            command = self._expert.get_action(self._privileged)
        return np.clip(command, -1.0, 1.0).astype(np.float32)

    def step(self, command: NDArray[np.float32]) -> None:
        """Take one decision: hold `command` for ACTION_REPEAT simulator steps.

        Args:
            command: [4], clipped to +-1: xyz displacement (1 = 0.01 m a simulator step), gripper (-1 open .. 1 closed).
        """
        clipped = np.clip(np.asarray(command, dtype=np.float32), -1.0, 1.0)
        self.touched = False
        for _ in range(ACTION_REPEAT):
            self._privileged, _, _, _, info = self._environment.step(clipped)
            self.success_now = bool(info["success"])
            self.success_any = self.success_any or self.success_now
            self.touched = self.touched or self._in_contact()
        self.decisions += 1

    def snapshot(self) -> Snapshot:
        """The present moment, to be drawn later: simulate first, render only what is kept."""
        sites = tuple((name, np.array(position)) for name, position in self._environment._target_site_config)
        data = self.data
        return Snapshot(data.qpos.copy(), data.mocap_pos.copy(), data.mocap_quat.copy(), sites)

    def show(self, snapshot: Snapshot) -> None:
        """Pose the scene as in `snapshot`, for drawing. The episode must not be stepped afterwards."""
        import mujoco

        self.data.qpos[:] = snapshot.qpos
        self.data.mocap_pos[:], self.data.mocap_quat[:] = snapshot.mocap_pos, snapshot.mocap_quat
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        for name, position in snapshot.sites:
            self.data.site(name).xpos[:] = position


class CompiledTask:
    """A task whose model is parsed once and copied for each episode, with one renderer for all of them.

    A context manager; `close` frees the OpenGL context.
    """

    def __init__(self, name: str) -> None:
        self.task = metaworld_task(name)
        select_gl_backend()
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
        from metaworld.policies import ENV_POLICY_MAP

        self._environment_class: Any = ALL_V3_ENVIRONMENTS[name]
        self._expert_class: Any = ENV_POLICY_MAP[name]
        self._pristine: Any = None
        self._renderer: Renderer | None = None

    def __enter__(self) -> "CompiledTask":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the renderer, if one was made."""
        if self._renderer:
            self._renderer.close()
        self._renderer = None

    def episode(self, seed: int) -> MetaWorldEpisode:
        """A fresh episode: nothing of an earlier one survives, so results do not depend on the order of episodes."""
        return MetaWorldEpisode(self.task, seed, self._copied_environment(), self._expert_class())

    def _copied_environment(self) -> Any:
        import mujoco

        if self._pristine is None:
            self._pristine = self._environment_class().model
            # Before any context is made from it: no multisampling, no shadow map.
            self._pristine.vis.quality.offsamples = 0
        pristine = self._pristine

        class Copied(self._environment_class):
            def _initialize_simulation(self) -> tuple[Any, Any]:
                model = copy.copy(pristine)
                return model, mujoco.MjData(model)

        return Copied()

    def render(self, episode: MetaWorldEpisode, camera: str, size: int) -> NDArray[np.uint8]:
        """What `camera` sees of `episode` now: RGB uint8 [size, size, 3], row 0 on top."""
        if self._renderer is None:
            self._renderer = Renderer(episode.model)
        return self._renderer.render(episode.model, episode.data, camera, size)


class Renderer:
    """An offscreen OpenGL context that draws any episode of the task whose model it was made from.

    Meshes and textures live in the context, positions in the episode's own model and data.
    """

    def __init__(self, model: Any) -> None:
        import mujoco

        self._mujoco = mujoco
        self._max_size = min(int(model.vis.global_.offwidth), int(model.vis.global_.offheight))
        self._gl = mujoco.GLContext(self._max_size, self._max_size)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        self._options = mujoco.MjvOption()
        self._groups = model.geom_group.copy()
        self.cull = True

    def close(self) -> None:
        """Free the context; safe to call twice."""
        if self._context:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
        self._context = None

    def _camera(self, name: str, model: Any) -> Any:
        camera = self._mujoco.MjvCamera()
        if name == "wrist":
            camera.type = self._mujoco.mjtCamera.mjCAMERA_FIXED
            camera.fixedcamid = model.camera("gripperPOV").id
        elif name == "corner":
            camera.type = self._mujoco.mjtCamera.mjCAMERA_FREE
            camera.azimuth, camera.elevation, camera.distance = _CORNER_AZIMUTH, _CORNER_ELEVATION, _CORNER_DISTANCE
            camera.lookat[:] = _CORNER_LOOKAT
        else:
            raise ValueError(f"cameras: Meta-World has no camera {name!r}; choose from {list(CAMERAS)}")
        return camera

    def _hide_what_is_out_of_view(self, model: Any, data: Any, camera: Any) -> None:
        """Move geoms whose bounding sphere misses the (square) view frustum to a group that is not drawn."""
        model.geom_group[:] = self._groups
        if not self.cull:
            return
        self._mujoco.mjv_updateCamera(model, data, camera, self._scene)
        view = self._scene.camera[0]
        forward, up = np.array(view.forward), np.array(view.up)
        right = np.cross(forward, up)
        half = view.frustum_top / view.frustum_near
        offset = data.geom_xpos - np.array(view.pos)
        depth, radius = offset @ forward, model.geom_rbound
        slack = radius * np.hypot(1.0, half)
        outside = depth < -radius
        for axis in (right, up):
            outside |= np.abs(offset @ axis) > depth * half + slack
        # Planes have no bounding sphere (radius 0): always drawn.
        model.geom_group[outside & (radius > 0)] = _HIDDEN_GROUP

    def render(self, model: Any, data: Any, camera_name: str, size: int) -> NDArray[np.uint8]:
        """RGB uint8 [size, size, 3], row 0 on top."""
        if not 0 < size <= self._max_size:
            raise ValueError(f"image_size: {size} is out of range; choose 1 to {self._max_size}")
        mujoco, scene = self._mujoco, self._scene
        # Another renderer of this process may have been made, or freed, since.
        self._gl.make_current()
        camera = self._camera(camera_name, model)
        self._hide_what_is_out_of_view(model, data, camera)
        mujoco.mjv_updateScene(model, data, self._options, None, camera, mujoco.mjtCatBit.mjCAT_ALL, scene)
        model.geom_group[:] = self._groups
        scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        rectangle = mujoco.MjrRect(0, 0, size, size)
        pixels = np.empty((size, size, 3), dtype=np.uint8)
        mujoco.mjr_render(rectangle, scene, self._context)
        mujoco.mjr_readPixels(pixels, None, rectangle, self._context)
        return pixels[::-1].copy()
