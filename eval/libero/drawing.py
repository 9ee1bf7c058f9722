"""Pictures of a LIBERO scene: only the cameras asked for, only when asked, only what the camera can see.

Runs in LIBERO's own environment. Pixels equal robosuite's own `sim.render` bit for bit (tests/eval/libero).
"""

from typing import Any, NamedTuple

import mujoco  # type: ignore[import-not-found]
import numpy as np
from numpy.typing import NDArray

CAMERAS = {"image": "agentview", "wrist_image": "robot0_eye_in_hand"}
"""Our names, which are those of LIBERO's LeRobot copies -> the model's."""

# As robosuite makes its offscreen context.
_WIDTH, _HEIGHT = 640, 480
_MAX_GEOMS = 1000
_COLLISION_GROUP, _VISUAL_GROUP = 0, 1


class Snapshot(NamedTuple):
    """What is needed to draw a moment again: simulate first, draw only what is kept.

    Attributes:
        geom_xpos, geom_xmat: Of every geom, [n, 3] and [n, 9].
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
        cull: Whether geoms outside the camera's view are left out; no pixel differs.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._gl = mujoco.GLContext(_WIDTH, _HEIGHT)
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
        self._drawn = mujoco.MjData(model)
        self.cull = True

    def close(self) -> None:
        """Free the context; safe to call twice."""
        if self._context:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
        self._context = None

    def draw(self, data: Any, camera: str, size: int) -> NDArray[np.uint8]:
        """What `camera` of the model sees: RGB uint8 [size, size, 3].

        Rows come as OpenGL has them, bottom first; turned by 180 degrees a picture is as in the data sets.
        """
        self._gl.make_current()  # another renderer of this process may have been made, or freed, since
        self._camera.fixedcamid = self.model.camera(camera).id
        mujoco.mjv_updateScene(
            self.model, data, self._options, self._perturbation, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        rectangle = mujoco.MjrRect(0, 0, size, size)
        mujoco.mjr_render(rectangle, self._scene, self._context)
        pixels = np.empty((size, size, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(pixels, None, rectangle, self._context)
        return pixels
