"""Two pipelines that share a step make it once, whoever was quicker."""

import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any, cast

from recipes.axes import FilledStep
from recipes.runner import Runner, Step

# What a step does: a while after its start it takes the folder, or gives up because another has it.
_PROGRAM = """
import sys, time
from pathlib import Path
from recipes.writer_lock import only_writer
run = Path(sys.argv[1])
time.sleep(0.5)
try:
    with only_writer(run):
        (run / f"made-{time.time_ns()}").write_text("")
        time.sleep(1)
        (run / "done.json").write_text("{}")
except ValueError:
    sys.exit(2)
"""


class _Server:
    """Starts that program, whatever step it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, arguments: object, log: Path) -> "subprocess.Popen[bytes]":
        with log.open("ab") as file:
            return subprocess.Popen([sys.executable, "-c", _PROGRAM, str(self._folder)], stdout=file, stderr=file)

    def close(self) -> None:
        """Nothing is held."""


def test_a_step_that_another_pipeline_took_first_is_waited_for(tmp_path: Path) -> None:
    shared, ended = tmp_path / "shared", []

    def pipeline(name: str) -> None:
        recipe = types.SimpleNamespace(is_done=(shared / "done.json").exists)
        filled = FilledStep(name="data", recipe="x", title="data", run=str(shared))
        (tmp_path / name).mkdir()
        runner = Runner(tmp_path / name, [Step(filled, Path("x"), {}, cast(Any, recipe))], 2, 1)
        runner._server = cast(Any, _Server(shared))
        runner.run()
        ended.append(name)

    both = [threading.Thread(target=pipeline, args=(name,)) for name in ("one", "other")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(ended) == ["one", "other"]
    assert len(list(shared.glob("made-*"))) == 1
