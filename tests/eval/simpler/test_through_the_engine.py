"""SIMPLER's simulator played by the engine, with a fake where ManiSkill2_real2sim would be: no SAPIEN, same socket."""

import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from eval.engine.config import EngineConfig
from eval.engine.drivers import Ask, HoldDriver, ReplayDriver
from eval.engine.engine import evaluate
from eval.simpler.simulator import RESET_SEED
from eval.simpler.suite import SimplerSuite
from eval.suite import Suite

CONFIG = EngineConfig(videos=0, timeout_s=30)
FAKE = Path(__file__).parent / "fake"


@dataclass(frozen=True)
class FakeSuite(SimplerSuite):
    """The suite as it is, in this interpreter with the fake beside it."""

    folder: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """No assets but photographs of one colour."""
        folder = Path(self.folder) / "assets" / "real_inpainting"
        folder.mkdir(parents=True, exist_ok=True)
        for index, name in enumerate(sorted({c.options["overlay"] for c in self.cases()} - {None})):
            Image.new("RGB", (4, 4), (10 * index + 10, 0, 0)).save(folder / name)
        given = dict(_bare_options(self))
        return given | {"assets": str(folder.parent), "renderer": None}

    def python(self) -> Path:
        """This interpreter, with the fake importable."""
        script = Path(self.folder) / "python"
        script.write_text(
            f'#!/bin/sh\nexport PYTHONPATH="{FAKE}:$PYTHONPATH" FAKE_FOLDER="{self.folder}"\n'
            f'exec "{sys.executable}" "$@"\n'
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return script

    @property
    def log(self) -> list[str]:
        """What the fake noted."""
        return (Path(self.folder) / "log.txt").read_text().splitlines()


def _bare_options(suite: SimplerSuite) -> dict[str, Any]:
    """`SimplerSuite.options` where nothing is set up."""
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr("eval.simpler.suite.assets_folder", lambda simulators: simulators)
        return dict(SimplerSuite.options.fget(suite))  # type: ignore[attr-defined]


class Watching(HoldDriver):
    """A driver that keeps what it is shown and goes steadily in x."""

    def __init__(self, step: float, opening: Sequence[float] = (1.0,)) -> None:
        self.step, self.opening, self.asks = step, list(opening), []

    def begin(self, suite: Suite) -> None:
        """Chunks of the suite's length."""
        self.execute = suite.execute

    def plan(self, asks: Sequence[Ask]) -> list[np.ndarray]:
        """The same for all, the gripper by the step."""
        self.asks += asks
        return [self._chunk(ask.step) for ask in asks]

    def _chunk(self, step: int) -> np.ndarray:
        chunk = np.zeros((self.execute, 7), np.float32)
        chunk[:, 0] = self.step
        chunk[:, 6] = [self.opening[min(step + i, len(self.opening) - 1)] for i in range(self.execute)]
        return chunk


def _records(suite: SimplerSuite, xs: Sequence[float]) -> ReplayDriver:
    actions = np.zeros((len(xs), 7), np.float32)
    actions[:, 0] = xs
    return ReplayDriver({case.key: actions for case in suite.cases()})


def test_all_readings_are_kept_and_the_quoted_one_is_the_last_moments(tmp_path: Path) -> None:
    suite = FakeSuite("widowx", tasks=("put_carrot_on_plate",), starts=2, folder=str(tmp_path))
    rows = evaluate(suite, _records(suite, [0.03, 0.03, -0.03, -0.03, 0.0]), CONFIG, tmp_path / "run", "there and back")
    for row in rows:
        assert (row.success_any, row.success_final, row.success_first) == (True, False, True)
        assert (row.quoted, row.success, row.steps) == ("final", False, 60)
        assert row.readings["info"]["episode_stats"] == {"qpos": 0.125, "is_grasped": False, "drawn": 0}
        assert (row.assets, row.setting) == ("stand-in", "visual_matching")
        assert row.versions["drawn_by"] == "GPU"


def test_an_episode_can_end_at_its_first_success_where_any_is_quoted(tmp_path: Path) -> None:
    suite = FakeSuite(
        "widowx", tasks=("put_carrot_on_plate",), starts=1, quoted="any", stop_at_success=True, folder=str(tmp_path)
    )
    (row,) = evaluate(suite, _records(suite, [0.03, 0.03, -0.03]), CONFIG, tmp_path / "run", "there")
    assert (row.steps, row.success, row.quoted) == (2, True, "any")


def test_the_google_robots_gripper_sticks_across_chunks(tmp_path: Path) -> None:
    suite = FakeSuite(
        "google", tasks=("move_near",), starts=1, leave_out=ALL_BUT_DEFAULT, execute=4, folder=str(tmp_path)
    )
    driver = Watching(0.0, [1.0] * 6 + [0.0])
    (row,) = evaluate(suite, driver, CONFIG, tmp_path / "run", "closing")
    gripper = [told[3] for told in row.readings["info"]["told"]]
    assert gripper[:6] == [0.0] * 6
    assert gripper[6:21] == [1.0] * 15
    assert gripper[21:] == [0.0] * (80 - 21)
    assert [ask.step for ask in driver.asks] == list(range(0, 80, 4))


def test_the_openpi_preset_sticks_for_10(tmp_path: Path) -> None:
    suite = FakeSuite(
        "google", tasks=("move_near",), starts=1, leave_out=ALL_BUT_DEFAULT, preset="openpi", folder=str(tmp_path)
    )
    (row,) = evaluate(suite, Watching(0.0, [1.0, 0.0]), CONFIG, tmp_path / "run", "closing")
    assert [told[3] for told in row.readings["info"]["told"]][:13] == [0.0] + [1.0] * 10 + [0.0] * 2


def test_widowx_gets_open_or_closed_and_turns_as_axis_angle(tmp_path: Path) -> None:
    suite = FakeSuite("widowx", tasks=("put_spoon_on_towel",), starts=1, folder=str(tmp_path))
    action = np.tile(np.array([0, 0, 0, 1.2, 0.9, -2.0, 0.6], np.float32), (2, 1))
    (row,) = evaluate(
        suite, ReplayDriver({case.key: action for case in suite.cases()}), CONFIG, tmp_path / "run", "turning"
    )
    turn = Rotation.from_euler("xyz", [1.2, 0.9, -2.0]).as_rotvec()
    assert row.readings["info"]["told"][0] == pytest.approx([*turn, 1.0], abs=1e-4)


@pytest.mark.parametrize(("picture", "shape"), [("square", (256, 256, 3)), ("as_recorded", (256, 320, 3))])
def test_a_view_is_a_picture_a_state_and_the_instruction_of_the_moment(
    tmp_path: Path, picture: Any, shape: tuple[int, ...]
) -> None:
    suite = FakeSuite("google", tasks=("place_apple_in_top_drawer",), starts=1, execute=20, folder=str(tmp_path),
                      leave_out=ALL_BUT_DEFAULT, shader="rasteriser", picture=picture)  # fmt: skip
    driver = Watching(0.001)
    evaluate(suite, driver, CONFIG, tmp_path / "run", "watching")
    views = [ask.view for ask in driver.asks if ask.view]
    assert [view.instruction for view in views] == ["do it"] * 5 + ["do the other thing"] * 5
    assert views[0].images["primary"].shape == shape
    assert views[0].state == pytest.approx([0.3, 0.0, 0.15, 0.0, 0.70711, 0.0, 0.70711, 0.02], abs=1e-4)
    assert views[1].state[0] == pytest.approx(0.32, abs=1e-5)
    # The simulator's half of the picture, cut to whole numbers; the photograph's above it.
    assert views[0].images["primary"][-1, 0, 0] == int(0.15 * 255)
    assert tuple(views[0].images["primary"][0, 0]) == (10, 0, 0)


def test_a_setting_has_a_process_and_photographs_change_in_it(tmp_path: Path) -> None:
    suite = FakeSuite("google", tasks=("open_top_drawer",), folder=str(tmp_path), shader="rasteriser", max_steps=1)
    driver = Watching(0.0)
    rows = evaluate(suite, driver, CONFIG, tmp_path / "run", "hold")
    built = [line for line in suite.log if line.startswith("built")]
    assert len(rows) == 36
    assert len(built) == 4
    assert len({line.split("process ")[1].split()[0] for line in built}) == 4
    assert {row.restarts for row in rows} == {0}  # a fresh process is no death
    assert [sum(urdf in line for line in built) for urdf in ("cabinet_visual", "tabletop_visual")] == [1, 2]
    assert all("shader_dir" not in line and "'control_freq', '3'" in line for line in built)
    red = [int(ask.view.images["primary"][0, 0, 0]) for ask in driver.asks[:9] if ask.view]
    assert red == [10 * index + 10 for index in range(9)]


def test_what_upstream_ray_traces_is_ray_traced_unless_told_otherwise(tmp_path: Path) -> None:
    suite = FakeSuite("google", tasks=("open_top_drawer", "move_near"), starts=1, folder=str(tmp_path), max_steps=1)
    evaluate(suite, HoldDriver(), CONFIG, tmp_path / "run", "hold")
    built = [line for line in suite.log if line.startswith("built")]
    assert {("OpenTop" in line, "('shader_dir', 'rt')" in line) for line in built} == {(True, True), (False, False)}
    assert suite.protocol["shader"] == "as_published"


def test_ray_tracing_on_a_cpu_is_refused_in_words(tmp_path: Path) -> None:
    from eval.simpler.simulator import SimplerSimulator

    suite = FakeSuite("google", tasks=("open_top_drawer",), folder=str(tmp_path))
    options: dict[str, Any] = {**suite.options, "renderer": str(tmp_path)}
    with pytest.raises(ValueError, match="set `shader: rasteriser`"):
        SimplerSimulator(**options)


def test_nothing_is_drawn_for_a_driver_that_does_not_look(tmp_path: Path) -> None:
    suite = FakeSuite("widowx", starts=1, folder=str(tmp_path))
    rows = evaluate(suite, _records(suite, [0.0]), CONFIG, tmp_path / "run", "blind")
    assert {row.readings["info"]["episode_stats"]["drawn"] for row in rows} == {0}
    resets = [line for line in suite.log if line.startswith("reset")]
    assert len(resets) == 4
    assert all(line.endswith(f"seed {RESET_SEED} drawn none") for line in resets)


@pytest.mark.parametrize("deed", ["die", pytest.param("hang", marks=pytest.mark.slow)])
def test_a_simulator_that_dies_or_hangs_is_replaced_and_its_episode_repeated(tmp_path: Path, deed: str) -> None:
    suite = FakeSuite("widowx", tasks=("put_carrot_on_plate",), starts=3, folder=str(tmp_path), max_steps=2)
    (tmp_path / deed).write_text("PutCarrotOnPlateInScene-v0 1")
    rows = evaluate(suite, HoldDriver(), EngineConfig(videos=0, timeout_s=15), tmp_path / "run", "hold")
    assert [(row.init, row.restarts, row.steps, row.error) for row in rows] == [
        (0, 0, 2, None), (1, 1, 2, None), (2, 0, 2, None)
    ]  # fmt: skip


def test_a_film_shows_every_moment(tmp_path: Path) -> None:
    suite = FakeSuite("widowx", tasks=("put_carrot_on_plate",), starts=1, folder=str(tmp_path), max_steps=5)
    (row,) = evaluate(
        suite, _records(suite, [0.01]), EngineConfig(videos=1, video_size=64, timeout_s=30), tmp_path / "run", "blind"
    )
    assert row.video
    import av

    with av.open(str(tmp_path / "run" / row.video)) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert film.streams.video[0].average_rate == 5
    assert len(frames) == 6
    assert frames[0].shape[0] == 64
    brightness = [float(frame[-8:].mean()) for frame in frames]
    assert brightness == sorted(brightness)
    assert brightness[-1] > brightness[0]


ALL_BUT_DEFAULT = tuple(
    f"urdf_recolor_{name}_visual_matching_{index}" for name, index in (("tabletop", 1), ("tabletop", 2), ("cabinet", 1))
)
