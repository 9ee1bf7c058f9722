"""What simulation tests need: a backend that draws, or a reason to skip."""

import pytest


@pytest.fixture(scope="session", autouse=False)
def simulator() -> str:
    """The OpenGL backend in use; skips where none works."""
    from eval.gl_backend import select_gl_backend

    pytest.importorskip("metaworld", reason="Meta-World is not installed")
    try:
        return select_gl_backend()
    except RuntimeError as error:
        pytest.skip(f"no OpenGL backend: {error}")
