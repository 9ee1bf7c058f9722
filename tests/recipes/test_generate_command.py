from pathlib import Path
from typing import Any

import pytest

import eval.libero.recording
import eval.metaworld.recording
from eval.libero.recording import LiberoRecordConfig
from eval.metaworld.recording import KindCounts, RecordConfig
from recipes.cli import main


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was to be recorded, instead of recording it."""
    calls: list[Any] = []
    monkeypatch.setattr(eval.libero.recording, "record_libero", lambda config, out, report: calls.append((config, out)))
    monkeypatch.setattr(eval.metaworld.recording, "record", lambda config, out: calls.append((config, out)))
    return calls


def test_libero_takes_options_and_any_other_field(asked: list[Any]) -> None:
    line = "data generate libero --suite libero_goal --tasks turn_on_the_stove put_the_bowl_on_the_plate --episodes 20"
    assert main([*line.split(), "--image-size", "96", "--out", "data/two", "--noise", "0.1"]) == 0
    tasks = ("turn_on_the_stove", "put_the_bowl_on_the_plate")
    config = LiberoRecordConfig(suite="libero_goal", tasks=tasks, episodes=20, image_size=96, noise=0.1)
    assert asked == [(config, Path("data/two"))]


def test_libero_records_a_whole_suite_by_default(asked: list[Any]) -> None:
    assert main(["data", "generate", "libero", "--suite", "libero_object", "--out", "data/x"]) == 0
    assert len(asked[0][0].names) == 10


def test_metaworld_counts_kinds(asked: list[Any]) -> None:
    line = "data generate metaworld --tasks door-open-v3 --episodes 5 --episodes.medium 2 --out data/x --workers 3"
    assert main([*line.split()]) == 0
    assert asked == [(RecordConfig(("door-open-v3",), KindCounts(expert=5, medium=2), workers=3), Path("data/x"))]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("metaworld --out x", "--tasks"),
        ("metaworld --suite libero_goal --tasks door-open-v3 --out x", "--suite belongs to libero"),
        ("libero --out x --nose 0.1", "noise"),
    ],
)
def test_what_cannot_be_is_told(line: str, words: str, asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "generate", *line.split()]) == 2
    assert words in capsys.readouterr().err
    assert not asked
