import pytest

from recipes.cli import main


def test_without_a_name_it_says_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLA_SIMULATORS", str(tmp_path_factory.mktemp("none")))
    assert main(["setup"]) == 0
    assert "libero: not set up; `vla setup libero`" in capsys.readouterr().out


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["setup", "calvin"]) == 2
    assert "there is no such simulator; choose from" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["setup", "--help"])
    words = capsys.readouterr().out
    assert "VLA_SIMULATORS" in words
    assert "VLA_LIBERO_ASSETS" in words
    assert "counts as absent" in words
