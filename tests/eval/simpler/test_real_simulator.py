"""SIMPLER itself, in its own environment: skipped where `vla setup simpler` was not run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from eval.engine.config import EngineConfig
from eval.engine.drivers import Ask, HoldDriver
from eval.engine.engine import evaluate
from eval.simpler.suite import SimplerSuite

pytestmark = pytest.mark.slow


class Watching(HoldDriver):
    """Goes forward and keeps what it is shown."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []

    def plan(self, asks: Sequence[Ask]) -> list[np.ndarray]:
        """One centimetre in x, gripper closed."""
        self.asks += asks
        chunk = np.zeros((1, 7), np.float32)
        chunk[:, 0] = 0.01
        return [chunk] * len(asks)


@pytest.fixture
def suite() -> SimplerSuite:
    """Two short episodes."""
    suite = SimplerSuite("widowx", tasks=("put_carrot_on_plate",), starts=2, max_steps=4)
    try:
        suite.python()
    except ValueError as error:
        pytest.skip(f"run `vla setup simpler`: {error}")
    return suite


def test_an_episode_after_another_is_what_it_is_alone(suite: SimplerSuite, tmp_path: Path) -> None:
    """Resetting a scene leaves nothing of the episode before; states and pictures are as Bridge has them."""
    both, alone = Watching(), Watching()
    rows = evaluate(suite, both, EngineConfig(videos=0, timeout_s=600), tmp_path / "both", "hold")
    evaluate(suite, alone, EngineConfig(videos=0, timeout_s=600, shard="2/2"), tmp_path / "alone", "hold")
    second = [ask.view for ask in both.asks if ask.case.init == 1 and ask.view]
    first = next(ask.view for ask in both.asks if ask.view)
    for here, there in zip(second, [ask.view for ask in alone.asks], strict=True):
        assert there is not None
        assert np.array_equal(here.state, there.state)
        assert np.array_equal(here.images["primary"], there.images["primary"])
    assert first.state == pytest.approx([0.292, -0.006, 0.135, 0, 0.06, 0, 1.0], abs=0.03)
    assert second[-1].state[0] > second[0].state[0] + 0.01  # forward is forward in the base frame
    assert second[-1].state[6] < 0.5
    assert first.instruction == "put carrot on plate"
    table = first.images["primary"][200:, :100].reshape(-1, 3).mean(0)
    assert table[0] > table[2] + 20  # the photograph's wood, and red is red
    assert all(row.steps == 4 and row.versions["sapien"] == "2.2.2" for row in rows)
