"""What a scripted expert may know: poses, collision shapes, joints and contacts, straight from the physics.

Positions are metres in the world frame, z up; rotations are matrices world <- body.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_CORNERS = np.array(list(product((-1.0, 1.0), repeat=3)))
_RING = np.array([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 16, endpoint=False)])


class Region(NamedTuple):
    """A box a goal speaks of: its centre, half sizes [3] along its own axes, and the rotation of these."""

    centre: Array
    half: Array
    rotation: Array


class Scene:
    """A LIBERO environment (robosuite's own object, not its wrapper) as an expert sees it.

    Geometry that does not move against its body is read once; everything else is read when it is asked for.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self._model: mujoco.MjModel = env.sim.model._model  # noqa: SLF001 robosuite wraps what mujoco's functions take
        self._data: mujoco.MjData = env.sim.data._data  # noqa: SLF001
        self._site = env.robots[0].eef_site_id
        self._pads = [
            {mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_GEOM, name) for name in names}
            for names in (
                ("gripper0_finger1_pad_collision", "gripper0_finger1_collision"),
                ("gripper0_finger2_pad_collision", "gripper0_finger2_collision"),
            )
        ]
        self._parts: dict[tuple[str, str], list[int]] = {}
        self._shapes: dict[int, Array] = {}

    @property
    def hand_position(self) -> Array:
        """The grip site, between the finger tips, [3]."""
        return self._data.site_xpos[self._site].copy()

    @property
    def hand_rotation(self) -> Array:
        """Of the grip site [3, 3]: the fingers close along column 0; column 2 points out of the hand."""
        return self._data.site_xmat[self._site].reshape(3, 3).copy()

    @property
    def opening(self) -> float:
        """Between the fingers, 0 to 0.08 m."""
        return float(np.abs(self._data.qpos[self.env.robots[0]._ref_gripper_joint_pos_indexes]).sum())  # noqa: SLF001

    @property
    def goal(self) -> list[tuple[str, ...]]:
        """The task's predicates, all of which must hold: (name, argument, ...)."""
        return [tuple(predicate) for predicate in self.env.parsed_problem["goal_state"]]

    @property
    def objects(self) -> list[str]:
        """Things that can be moved."""
        return list(self.env.objects_dict)

    @property
    def things(self) -> list[str]:
        """Objects and fixtures."""
        return [*self.env.objects_dict, *self.env.fixtures_dict]

    def holds(self, predicate: Sequence[str]) -> bool:
        """Whether one predicate of the goal is true now."""
        return bool(self.env._eval_predicate(list(predicate)))  # noqa: SLF001 the success check's own reading

    def position(self, name: str) -> Array:
        """Origin of an object's body, the point success is judged by, [3]."""
        return self._data.xpos[self.env.obj_body_id[name]].copy()

    def rotation(self, name: str) -> Array:
        """Of an object's body [3, 3]."""
        return self._data.xmat[self.env.obj_body_id[name]].reshape(3, 3).copy()

    def points(self, name: str, part: str = "") -> Array:
        """Corners of the collision shapes [N, 3] of a thing, or of its bodies whose names hold `part`."""
        return np.concatenate([self._corners(geom) for geom in self._geoms(name, part)])

    def box(self, name: str, part: str = "", size: int = 0) -> Array:
        """Corners [8, 3] of one collision shape: the `size`-th longest of that part."""
        geoms = sorted(self._geoms(name, part), key=lambda geom: -float(np.ptp(self._shape(geom), axis=0).max()))
        return self._corners(geoms[size])

    def boxes(self, name: str, part: str = "") -> list[Array]:
        """Corners of every collision shape of a part."""
        return [self._corners(geom) for geom in self._geoms(name, part)]

    def region(self, name: str) -> Region:
        """A named region of a goal."""
        site = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_SITE, name)
        rotation = self._data.site_xmat[site].reshape(3, 3).copy()
        return Region(self._data.site_xpos[site].copy(), np.array(self._model.site_size[site]), rotation)

    def is_region(self, name: str) -> bool:
        """Whether a goal's argument is a region rather than a thing."""
        return name in self.env.object_sites_dict

    def owner(self, region: str) -> str:
        """The thing a region belongs to: the longest name it starts with."""
        return max((name for name in self.things if region.startswith(name)), key=len, default="")

    def joint(self, name: str) -> float:
        """A joint's position, rad or m."""
        return float(self._data.joint(name).qpos[0])

    def joint_axis(self, name: str) -> tuple[Array, Array]:
        """A hinge's or slide's anchor [3] and direction [3] in the world."""
        joint = self._data.joint(name)
        return joint.xanchor.copy(), joint.xaxis.copy()

    def joint_way(self, name: str) -> float:
        """The sign of the direction in which a joint that is shut can go."""
        low, high = self._model.joint(name).range
        return 1.0 if high > -low else -1.0

    def joints_of(self, region: str) -> list[str]:
        """The joints of the drawer, door or knob a predicate is about."""
        if self.is_region(region):
            return list(self.env.object_sites_dict[region].joints or [])
        return list(self.env.get_object(region).joints)

    def joints_of_region(self, region: str) -> list[str]:
        """Of the drawer that a region is in; none for other regions, or things."""
        return self.joints_of(region) if self.is_region(region) else []

    def body_of_joint(self, joint: str) -> str:
        """The body that joint moves."""
        return self._model.body(int(self._model.joint(joint).bodyid[0])).name

    def is_held(self, name: str) -> bool:
        """Whether both fingers touch the thing."""
        geoms, touched = set(self._geoms(name)), set[int]()
        for pair in self._data.contact.geom[: self._data.ncon]:
            for finger, pads in enumerate(self._pads):
                if (pair[0] in pads and pair[1] in geoms) or (pair[1] in pads and pair[0] in geoms):
                    touched.add(finger)
        return len(touched) == len(self._pads)

    def height_along(self, start: Array, end: Array, radius: float, ignoring: Iterable[str]) -> float:
        """Highest point of any thing not ignored within `radius` of the segment start-end, seen from above."""
        skipped = set(ignoring)
        points = np.concatenate([self.points(name) for name in self.things if name not in skipped])
        line, offset = end[:2] - start[:2], points[:, :2] - start[:2]
        along = np.clip(offset @ line / max(float(line @ line), 1e-9), 0.0, 1.0)
        near = np.linalg.norm(offset - along[:, None] * line, axis=1) < radius
        return float(points[near, 2].max()) if near.any() else -np.inf

    def clearance(self, points: Array, ignoring: Iterable[str]) -> Array:
        """Distance (m) from each point [N, 3] to the nearest shape of any thing not ignored, [N]; 0 inside of one."""
        skipped = set(ignoring)
        geoms = [geom for name in self.things if name not in skipped for geom in self._geoms(name)]
        rotations = self._data.geom_xmat[geoms].reshape(-1, 3, 3)
        low = np.stack([self._shape(geom).min(axis=0) for geom in geoms])
        high = np.stack([self._shape(geom).max(axis=0) for geom in geoms])
        local = np.einsum("gij,ngi->ngj", rotations, points[:, None] - self._data.geom_xpos[geoms])
        outside = np.maximum(np.maximum(low - local, local - high), 0.0)
        return np.linalg.norm(outside, axis=-1).min(axis=1)

    def _geoms(self, name: str, part: str = "") -> list[int]:
        """Collision geoms of a thing's bodies; contacts need a contype or a conaffinity."""
        if (name, part) not in self._parts:
            root, model = self.env.obj_body_id[name], self._model
            bodies = [b for b in range(model.nbody) if root in self._lineage(b) and part in model.body(b).name]
            self._parts[name, part] = [
                geom
                for geom in range(self._model.ngeom)
                if self._model.geom_bodyid[geom] in bodies
                and (self._model.geom_contype[geom] or self._model.geom_conaffinity[geom])
            ]
        return self._parts[name, part]

    def _lineage(self, body: int) -> list[int]:
        chain = [body]
        while chain[-1]:
            chain.append(int(self._model.body_parentid[chain[-1]]))
        return chain

    def _corners(self, geom: int) -> Array:
        rotation = self._data.geom_xmat[geom].reshape(3, 3)
        return self._data.geom_xpos[geom] + self._shape(geom) @ rotation.T

    def _shape(self, geom: int) -> Array:
        """Corner points of a geom in its own frame."""
        if geom not in self._shapes:
            self._shapes[geom] = _points_of(self._model, geom)
        return self._shapes[geom]


def _points_of(model: mujoco.MjModel, geom: int) -> Array:
    kind, size = model.geom_type[geom], model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        return np.array(model.mesh_vert[first : first + count], dtype=np.float64)
    if kind in (mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE):
        length = size[1] + (size[0] if kind == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0)
        return np.concatenate([np.c_[_RING * size[0], np.full(len(_RING), end)] for end in (-length, length)])
    half = np.full(3, size[0]) if kind == mujoco.mjtGeom.mjGEOM_SPHERE else np.array(size)
    return _CORNERS * half
