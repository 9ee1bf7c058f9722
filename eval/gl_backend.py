"""Choosing a headless OpenGL backend for MuJoCo before MuJoCo is first imported."""

import os
import subprocess
import sys

# A context is made current and released for real: libraries that exist but do not work are common in containers.
_PROBE = "import mujoco; c = mujoco.GLContext(16, 16); c.make_current(); c.free()"
_PROBE_SECONDS = 60


def _works(backend: str) -> bool:
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    command = [sys.executable, "-c", _PROBE]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def select_gl_backend() -> str:
    """Set MUJOCO_GL to a backend that renders without a display, and return its name.

    An existing MUJOCO_GL is kept. Otherwise EGL is tried, then OSMesa, each in a process of its own (about 1 s),
    because MuJoCo reads the variable once, at its first import. Worker processes inherit the choice. Systems other
    than Linux keep MuJoCo's own default (an empty name).

    Raises:
        RuntimeError: no backend works, or MuJoCo was imported before a backend was chosen.
    """
    if chosen := os.environ.get("MUJOCO_GL"):
        return chosen
    if sys.platform != "linux":
        return ""
    if "mujoco" in sys.modules:
        raise RuntimeError(
            "mujoco was imported before MUJOCO_GL was chosen; export MUJOCO_GL=egl (or osmesa), "
            "or call eval.gl_backend.select_gl_backend() before importing mujoco or metaworld"
        )
    for backend in ("egl", "osmesa"):
        if _works(backend):
            os.environ["MUJOCO_GL"] = backend
            return backend
    raise RuntimeError(
        "MuJoCo cannot render: neither MUJOCO_GL=egl nor MUJOCO_GL=osmesa works on this machine. "
        "Install the system libraries (Debian/Ubuntu: apt-get install libegl1 libgl1-mesa-dri, or libosmesa6) "
        "and check with: MUJOCO_GL=egl python -c 'import mujoco; mujoco.GLContext(16, 16).make_current()'"
    )
