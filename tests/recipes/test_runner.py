"""Steps started as their needs are met; a folder that another pipeline is at work in is waited for."""

import threading
import time
from pathlib import Path

import pytest

from recipes import runner
from recipes.axes import FilledStep
from recipes.fork_server import ForkServer
from recipes.loading import RecipeError
from recipes.runner import Runner, Step
from recipes.writer_lock import in_use, only_writer

PROGRAM = "tests.recipes.forked_program"
ROOT = Path(__file__).parents[2]


class Recipe:
    """Done once its folder says so."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_done(self) -> bool:
        return (self._folder / "done.json").exists()


class Work(Step):
    """A step whose process is the light program with some words."""

    @property
    def arguments(self) -> list[str]:
        return [str(word) for word in self.overrides["words"]]


def _step(root: Path, name: str, *words: str, needs: tuple[str, ...] = ()) -> Step:
    filled = FilledStep(name, "x.yaml", title=name, needs=list(needs), run=str(root / name))
    return Work(filled, Path("x.yaml"), {"words": words}, Recipe(root / name))


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(runner, "ForkServer", lambda threads, log: ForkServer(threads, log, PROGRAM, ()))


def test_needs_come_first_and_what_is_done_is_left_alone(tmp_path: Path) -> None:
    steps = [
        _step(tmp_path, "last", "order", str(tmp_path / "order"), "last", needs=("first",)),
        _step(tmp_path, "first", "order", str(tmp_path / "order"), "first", needs=("there",)),
        _step(tmp_path, "there", "exit", "1"),
    ]
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "done.json").touch()
    Runner(tmp_path, steps, workers=2, threads=1).run()
    assert (tmp_path / "order").read_text() == "first last "


def test_a_failure_shows_the_end_of_its_log_and_ends_the_others(tmp_path: Path) -> None:
    steps = [_step(tmp_path, "slow", "sleep"), _step(tmp_path, "bad", "fail")]
    with pytest.raises(RuntimeError, match=r"step `bad` failed \(exit 1\):\n(.*\n)*ValueError: an uncaught error"):
        Runner(tmp_path, steps, workers=2, threads=1).run()
    assert not in_use(tmp_path / "slow")


def test_another_pipelines_work_is_waited_for_and_not_done_again(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    steps = [_step(tmp_path, "shared", "exit", "1")]  # it would fail if it were started
    mine = threading.Thread(target=Runner(tmp_path, steps, workers=1, threads=1).run)
    with only_writer(tmp_path / "shared"):
        mine.start()
        time.sleep(0.3)
        assert mine.is_alive()
        (tmp_path / "shared" / "done.json").touch()
    mine.join(timeout=30)
    assert not mine.is_alive()
    assert not (tmp_path / "shared" / "log.txt").exists()


def test_one_process_writes_in_a_folder(tmp_path: Path) -> None:
    assert not in_use(tmp_path / "nowhere")
    with only_writer(tmp_path):
        assert in_use(tmp_path)
        with pytest.raises(RecipeError, match="is in use by another process"), only_writer(tmp_path):
            pass
    assert not in_use(tmp_path)
    with only_writer(tmp_path):
        pass
