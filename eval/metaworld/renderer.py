"""Fast pictures of Meta-World without a display.

Rendering at 64 px is bound by geometry (65,000 triangles of robot arm, mostly out of view), so geoms outside the
camera's frustum are hidden first, which changes no pixel.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CAMERAS = ("corner", "wrist")
"""`corner`: a free camera above the table's corner; `wrist`: the model's gripperPOV."""

# Meta-World's own "corner2" leaves objects 2-4 px wide at 64 px and is upside-down; this free camera shows them at
# 10-20 px, upright. Degrees, degrees, metres, metres.
_CORNER_AZIMUTH, _CORNER_ELEVATION, _CORNER_DISTANCE, _CORNER_LOOKAT = 135.0, -35.0, 1.1, (0.0, 0.63, 0.12)

_HIDDEN_GROUP = 5


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
