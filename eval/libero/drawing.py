"""Pictures of a LIBERO scene: only the cameras asked for, only when asked, only what the camera can see.

Runs in LIBERO's own environment. Pixels equal robosuite's own `sim.render` bit for bit (tests/eval/libero hold it).
Without a GPU a picture costs its geometry: 200,000 to 270,000 triangles, whatever the size, and once more for each
mirror in view, such as the base of a stove. So geoms outside the view are left out, and what a mirror reflects is drawn
in a second picture of its own that holds only what reaches it.
"""

from typing import Any, NamedTuple

import mujoco  # type: ignore[import-not-found]
import numpy as np
from numpy.typing import NDArray

from eval.libero.view_volume import Boxes, ViewVolume, Window

CAMERAS = {"image": "agentview", "wrist_image": "robot0_eye_in_hand"}
"""Our names, which are those of LIBERO's LeRobot copies -> the model's."""

_LARGEST = 640
_MAX_GEOMS = 1000
_COLLISION_GROUP, _VISUAL_GROUP, _HIDDEN_GROUP = 0, 1, 5

_PLANE, _BOX = int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_BOX)
_REFLECTION = int(mujoco.mjtRndFlag.mjRND_REFLECTION)

# What a second picture costs beside its triangles, in triangles.
_PICTURE = 50_000


class Snapshot(NamedTuple):
    """What is needed to draw a moment again: simulate first, draw only what is kept. About 40 kB.

    Attributes:
        geom_xpos, geom_xmat: Of every geom, world frame, [n, 3] and [n, 9].
        site_xpos, site_xmat, site_rgba: Of every site.
        cam_xpos, cam_xmat: Of every camera.
        light_xpos, light_xdir: Of every light.
    """

    geom_xpos: NDArray[np.float64]
    geom_xmat: NDArray[np.float64]
    site_xpos: NDArray[np.float64]
    site_xmat: NDArray[np.float64]
    site_rgba: NDArray[np.float32]
    cam_xpos: NDArray[np.float64]
    cam_xmat: NDArray[np.float64]
    light_xpos: NDArray[np.float64]
    light_xdir: NDArray[np.float64]


_OF_DATA = tuple(name for name in Snapshot._fields if name != "site_rgba")


def take_snapshot(model: Any, data: Any) -> Snapshot:
    """The present moment, as it would be drawn now."""
    fields = {name: getattr(data, name).copy() for name in _OF_DATA}
    return Snapshot(**fields, site_rgba=model.site_rgba.copy())


class Renderer:
    """An offscreen OpenGL context for one compiled model.

    Attributes:
        cull: Whether what cannot be seen is left out; no pixel differs.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        model.vis.global_.offwidth = model.vis.global_.offheight = _LARGEST
        self._gl = mujoco.GLContext(_LARGEST, _LARGEST)
        self._gl.make_current()
        self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._options = mujoco.MjvOption()
        self._options.geomgroup[_COLLISION_GROUP] = 0
        self._options.geomgroup[_VISUAL_GROUP] = 1
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._perturbation = mujoco.MjvPerturb()
        self._data = mujoco.MjData(model)
        self._groups = model.geom_group.copy()
        self._planes = model.geom_type == _PLANE
        self._mirrors = self._find_mirrors()
        self._triangles = self._count_triangles()
        self.cull = True

    def _find_mirrors(self) -> NDArray[np.intp]:
        """Geoms that MuJoCo draws with what they reflect: planes and boxes of a reflecting material that are shown."""
        model = self.model
        reflects = np.array([m >= 0 and model.mat_reflectance[m] > 0 for m in model.geom_matid], dtype=bool)
        flat = np.isin(model.geom_type, (_PLANE, _BOX))
        return np.flatnonzero(reflects & flat & (model.geom_group != _COLLISION_GROUP))

    def _count_triangles(self) -> NDArray[np.int64]:
        """Of each geom as it is drawn; meshes are what matters."""
        model = self.model
        meshes = model.geom_type == int(mujoco.mjtGeom.mjGEOM_MESH)
        counts = np.where(meshes, model.mesh_facenum[np.where(meshes, model.geom_dataid, 0)], 0)
        return np.where(model.geom_group != _COLLISION_GROUP, counts, 0)

    def close(self) -> None:
        """Free the context; safe to call twice."""
        if self._context:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
        self._context = None

    def draw(self, snapshot: Snapshot, camera: str, size: int) -> NDArray[np.uint8]:
        """What a camera saw at a moment: RGB uint8 [size, size, 3], turned by 180 degrees as the data sets are.

        Args:
            snapshot: The moment; of this model.
            camera: A key of `CAMERAS`.
            size: Pixels, 1 to 640.
        """
        if camera not in CAMERAS:
            raise ValueError(f"cameras: LIBERO has no camera {camera!r}; choose from {list(CAMERAS)}")
        if not 0 < size <= _LARGEST:
            raise ValueError(f"image_size: {size} is out of range; choose 1 to {_LARGEST}")
        self._gl.make_current()  # another renderer of this process may have been made, or freed, since
        number = self.model.camera(CAMERAS[camera]).id
        self._camera.fixedcamid = number
        for name in _OF_DATA:
            getattr(self._data, name)[:] = getattr(snapshot, name)
        live = self.model.site_rgba.copy()
        try:
            self.model.site_rgba[:] = snapshot.site_rgba
            pixels = self._culled(number, size) if self.cull else self._picture(size)
        finally:
            self.model.site_rgba[:] = live
            self.model.geom_group[:] = self._groups
        # LIBERO's pictures are OpenGL's as they come, bottom row first; the data sets hold them turned by 180 degrees.
        return np.ascontiguousarray(pixels[::-1, ::-1])

    def _culled(self, camera: int, size: int) -> NDArray[np.uint8]:
        data = self._data
        boxes = Boxes.of_geoms(data.geom_xpos, data.geom_xmat, self.model.geom_aabb)
        view = ViewVolume.of_camera(data.cam_xpos[camera], data.cam_xmat[camera], self.model.cam_fovy[camera])
        seen = view.meets(boxes) | self._planes
        mirrors = [mirror for mirror in self._mirrors if seen[mirror] and self._faces(mirror, view)]
        if not mirrors:
            return self._picture(size, seen)
        images = [self._reflected(boxes, mirror) for mirror in mirrors]
        together = seen | np.any([view.meets(image) for image in images], axis=0)
        window = self._window(mirrors, view, boxes, size)
        if window is None:
            return self._picture(size, together)
        part = view.part(window, size)
        near = part.meets(boxes) | self._planes | np.any([part.meets(image) for image in images], axis=0)
        # MuJoCo draws everything once more where there is a mirror.
        apart = self._triangles[seen].sum() + 2 * self._triangles[near].sum() + _PICTURE
        if apart >= 2 * self._triangles[together].sum():
            return self._picture(size, together)
        pixels = self._picture(size, seen, reflections=False)
        pixels[window.rows, window.columns] = self._picture(size, near)[window.rows, window.columns]
        return pixels

    def _faces(self, mirror: int, view: ViewVolume) -> bool:
        """Whether the camera is on the side of a mirror that reflects, as MuJoCo decides it."""
        return float((view.position - self._data.geom_xpos[mirror]) @ self._normal(mirror)) >= 0

    def _normal(self, mirror: int) -> NDArray[np.float64]:
        return self._data.geom_xmat[mirror].reshape(3, 3)[:, 2]

    def _reflected(self, boxes: Boxes, mirror: int) -> Boxes:
        normal = self._normal(mirror)
        depth = self.model.geom_size[mirror, 2] if self.model.geom_type[mirror] == _BOX else 0.0
        return boxes.reflected(self._data.geom_xpos[mirror] + depth * normal, normal)

    def _window(self, mirrors: list[Any], view: ViewVolume, boxes: Boxes, size: int) -> Window | None:
        """The pixels that mirrors may cover; None where that is not a bounded part of the picture."""
        if any(self._planes[mirror] for mirror in mirrors):
            return None
        return view.window(boxes.corners(mirrors), size)

    def _picture(
        self, size: int, shown: NDArray[np.bool_] | None = None, reflections: bool = True
    ) -> NDArray[np.uint8]:
        """Draw the geoms `shown` (default: all) as posed in `_data`, rows bottom first."""
        model, scene = self.model, self._scene
        model.geom_group[:] = self._groups
        if shown is not None:
            model.geom_group[~shown] = _HIDDEN_GROUP
        category = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(model, self._data, self._options, self._perturbation, self._camera, category, scene)
        scene.flags[_REFLECTION] = reflections
        rectangle = mujoco.MjrRect(0, 0, size, size)
        mujoco.mjr_render(rectangle, scene, self._context)
        pixels = np.empty((size, size, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(pixels, None, rectangle, self._context)
        return pixels
