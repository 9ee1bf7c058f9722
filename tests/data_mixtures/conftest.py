"""Data sets written once a session; a test that changes one copies it first."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # recorded.py lies beside the tests, which are no package

from recorded import write_dataset


@pytest.fixture(scope="session")
def door_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 episodes of 20..27 frames, two cameras."""
    return write_dataset(tmp_path_factory.mktemp("data") / "door", list(range(20, 28)), ("corner", "wrist"))


@pytest.fixture(scope="session")
def other_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 episodes of 22 frames of 48 px, without the wrist camera."""
    return write_dataset(tmp_path_factory.mktemp("data") / "other", [22] * 4, ("corner",), size=48, seed=7)
