"""Before any test imports mujoco: it reads MUJOCO_GL once, at its first import, whichever test does that."""

from contextlib import suppress

import pytest

from eval.gl_backend import select_gl_backend


def pytest_configure(config: pytest.Config) -> None:
    with suppress(RuntimeError):  # the tests that draw skip, with this error as the reason
        select_gl_backend()
