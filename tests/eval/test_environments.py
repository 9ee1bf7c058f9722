from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from eval import environments
from eval.environments import Environment, install, own_packages, python_of


class _Commands:
    """Instead of running them: those that were asked for; `breaks` at the one that contains it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.breaks: str | None = None

    def __call__(self, command: list[str], what: str, variables: Mapping[str, str] | None = None) -> str:
        self.asked.append(" ".join(command[1:]))
        if self.breaks and self.breaks in self.asked[-1]:
            raise RuntimeError(f"{what} failed")
        if command[1:3] == ["-m", "venv"]:
            python = Path(command[3]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.touch()
        return 'noise of a library\n{"mujoco": "3.3.2"}\n'


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Commands:
    monkeypatch.setenv("VLA_SIMULATORS", str(tmp_path))
    commands = _Commands()
    monkeypatch.setattr(environments, "_run", commands)
    return commands


def _environment(*pip: tuple[str, ...]) -> Environment:
    return Environment("toy", "a toy", pip or (("a==1",), ("b==2",)), check="toy.check")


def test_it_is_whole_after_its_check_and_then_left_alone(commands: _Commands, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(ValueError, match=r"toy: its environment .* is not set up; run `vla setup toy`"):
        python_of(_environment())
    assert install(_environment(), said.append) == {"mujoco": "3.3.2"}
    assert python_of(_environment()) == tmp_path / "toy" / "bin" / "python"
    count = len(commands.asked)
    assert count == 4
    assert install(_environment(), said.append) == {"mujoco": "3.3.2"}
    assert len(commands.asked) == count
    assert said[-1].startswith("toy: already there")


@pytest.mark.parametrize(("breaks", "done_before"), [("b==2", 3), ("toy.check", 4)])
def test_an_interrupted_one_is_absent_and_goes_on(commands: _Commands, breaks: str, done_before: int) -> None:
    commands.breaks = breaks
    with pytest.raises(RuntimeError, match="failed"):
        install(_environment(), lambda line: None)
    assert len(commands.asked) == done_before
    with pytest.raises(ValueError, match="is unfinished or out of date"):
        python_of(_environment())
    commands.breaks, commands.asked = None, []
    install(_environment(), lambda line: None)
    assert not any("venv" in command for command in commands.asked)
    python_of(_environment())


def test_other_versions_are_another_environment(commands: _Commands) -> None:
    install(_environment(), lambda line: None)
    with pytest.raises(ValueError, match="out of date"):
        python_of(_environment(("a==2",)))
    install(_environment(("a==2",)), lambda line: None)
    assert commands.asked[-2].endswith("a==2")
    with pytest.raises(ValueError, match="out of date"):
        python_of(_environment())


def test_what_was_prepared_and_is_gone_is_prepared_again(commands: _Commands, tmp_path: Path) -> None:
    meshes = tmp_path / "meshes"
    environment = replace(
        _environment(), prepare=lambda folder, say: meshes.mkdir(exist_ok=True), is_prepared=meshes.is_dir
    )
    install(environment, lambda line: None)
    python_of(environment)
    meshes.rmdir()
    with pytest.raises(ValueError, match="unfinished or out of date"):
        python_of(environment)
    install(environment, lambda line: None)
    assert meshes.is_dir()
    assert sum("toy.check" in command for command in commands.asked) == 2
    assert sum("pip" in command for command in commands.asked) == 2


def test_a_failing_command_says_its_last_words() -> None:
    with pytest.raises(RuntimeError, match=r"trying failed \(status 3\):\nthe reason"):
        environments._run(["sh", "-c", "echo the reason >&2; exit 3"], "trying")


def test_only_our_packages_are_lent() -> None:
    with own_packages() as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["data_mixtures", "eval", "vla"]
        assert (folder / "eval" / "suite.py").is_file()
    assert not folder.exists()
