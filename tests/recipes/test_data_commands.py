"""`vla data` from its arguments to its exit status, output and files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.cli import main
from recipes.data_commands import add_data_commands

ROOT = Path(__file__).parents[2]
LENGTHS, SIZE = range(22, 28), 32  # of the workplace's data set
FRAMES = sum(LENGTHS)


@pytest.fixture(scope="module")
def folder(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`, a data set; `unknown`, the same of a robot nobody described; two mixtures."""
    made = tmp_path_factory.mktemp("data_commands")
    shutil.copytree(workplace / "data", made / "data", ignore=shutil.ignore_patterns(".cache"))
    shutil.copytree(made / "data", made / "unknown")
    info = json.loads((made / "unknown/meta/info.json").read_text())
    (made / "unknown/meta/info.json").write_text(json.dumps(info | {"robot_type": "my_arm"}))
    shared = f"cameras: [corner]\nimage_size: {SIZE}\nwindow: {{frames: 2, horizon: 4}}\n"
    (made / "one.yaml").write_text("datasets:\n- {path: data, weight: 2}\n" + shared)
    absent = "- {path: absent, weight: 6, source: the moon}\n"
    (made / "two.yaml").write_text("datasets:\n- {path: data, weight: 2}\n" + absent + shared)
    return made


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_help_answers_without_torch_and_has_examples():
    probe = (
        "import sys; from recipes.cli import main\ntry: main(['data', 'inspect', '--help'])\nexcept SystemExit: pass\n"
    )
    probe += "sys.exit('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "vla data inspect data/mine" in told.stdout


def test_inspect_prints_a_table(capsys: pytest.CaptureFixture):
    assert main(["data", "inspect", "data"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "lerobot",
        "metaworld_sawyer",
        f"{FRAMES}",
        "left arm position x",
        "push the square",
        "reach the square",
    ):
        assert words in printed
    assert f"corner {SIZE}x{SIZE}" in printed


def test_inspect_json_and_a_sample(capsys: pytest.CaptureFixture):
    assert main(["data", "inspect", "data", "--json", "--episodes", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["episodes"], found["episodes_read"], found["frames"]) == (6, 2, LENGTHS[0] + LENGTHS[-1])
    assert found["subtasks"]["spans"] == 4
    main(["data", "inspect", "data", "--episodes", "2"])
    assert "2 of them read, spread out" in capsys.readouterr().out


def test_inspect_of_a_robot_nobody_described_still_shows_its_videos(capsys: pytest.CaptureFixture):
    assert main(["data", "inspect", "unknown"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Action: none, it is video only" in printed
    assert "states and actions are not read: robot_type 'my_arm'" in printed


def test_inspect_fails_when_nothing_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture):
    shutil.copytree("data", tmp_path / "data", ignore=shutil.ignore_patterns(".cache"))
    for path in (tmp_path / "data/data").rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:100])
    assert main(["data", "inspect", str(tmp_path / "data")]) in (1, 2)
    assert "data" in capsys.readouterr().err


def test_view_writes_one_page(tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "page.html"
    assert main(["data", "view", "data", "--episode", "episode_000003", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert f'"length": {LENGTHS[3]}' in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["view", "data", "--episode", "17"], "number from 0 to 5"),
        (["inspect", "nothing"], "nothing"),
        (["inspect", "data", "--splitt", "val"], "Did you mean `split`?"),
        (["inspect", "data", "--dataset", "x"], "is none"),
        (["inspect", "two.yaml"], "--dataset data | absent"),
        (["inspect", "two.yaml", "--dataset", "other"], "two.yaml has data, absent"),
        (["mixture", "nothing.yaml"], "nothing.yaml does not exist"),
        (["mixture", "one.yaml", "--datasets.0.weight", "-1"], "weight"),
        (["verify", "data", "--deep", "1"], "no option --deep"),
        (["verify", "data"], "data"),
        (["ingest", "two.yaml", "shards"], "Get it from the moon"),
    ],
)
def test_errors_teach(arguments: list[str], words: str, capsys: pytest.CaptureFixture):
    assert main(["data", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_mixture_names_its_sets(capsys: pytest.CaptureFixture, tmp_path: Path):
    assert main(["data", "mixture", "two.yaml", "--out", str(tmp_path / "m.html")]) == 0
    printed = capsys.readouterr().out
    assert "25.000" in printed
    assert "75.000" in printed
    assert "absent: absent does not exist; get it from the moon" in printed
    assert "absent" in (tmp_path / "m.html").read_text()


def test_a_mixture_as_training_sees_it(capsys: pytest.CaptureFixture):
    arguments = ["data", "mixture", "one.yaml", "--exact", "--json", "--datasets.0.skip_per_task", "1"]
    assert main(arguments) == 0
    row = json.loads(capsys.readouterr().out)["datasets"][0]
    assert row["size"]["episodes"] == 4
    assert row["size"]["frames"] == sum(LENGTHS[2:])
    assert row["epochs_per_million"] == pytest.approx(1e6 / sum(LENGTHS[2:]))


def test_ingest_verify_and_train_from_shards(tmp_path: Path, capsys: pytest.CaptureFixture):
    target = tmp_path / "shards"
    assert main(["data", "ingest", "one.yaml", str(target)]) == 0
    assert capsys.readouterr().out.strip() == str(target / "mixture.yaml")
    assert main(["data", "ingest", "one.yaml", str(target)]) == 0  # done already
    assert main(["data", "verify", str(target)]) == 0
    capsys.readouterr()
    assert main(["data", "inspect", str(target / "mixture.yaml"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["frames"], found["episodes"]) == ("shards", FRAMES, 6)
    assert found["cameras"][0]["sizes"] == [f"{SIZE}x{SIZE}"]
    page = tmp_path / "e.html"
    assert main(["data", "view", str(target / "data"), "--out", str(page)]) == 0
    assert "reach the square" in page.read_text()
    shard = next(target.rglob("shard-*.bin"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    capsys.readouterr()
    assert main(["data", "verify", str(target)]) == 1
    assert "checksum" in capsys.readouterr().out


def test_the_commands_are_listed_once():
    import argparse

    parser = argparse.ArgumentParser()
    add_data_commands(parser.add_subparsers())
    assert "data" in parser.format_help()
