"""`vla data` from its arguments to its exit status, output and files."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from data_mixtures.config import DatasetConfig
from data_mixtures.lerobot.writer import LeRobotWriter
from recipes.cli import main
from recipes.data_commands import add_data_commands
from recipes.ingest import _different_names

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
    assert "states and actions are not read: unknown: robot_type 'my_arm' has no unified mapping" in printed


def test_inspect_of_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setenv("VLA_CACHE", str(tmp_path / "cache"))
    fsspec.filesystem("memory").put("data", "/shelf/mine", recursive=True)
    assert main(["data", "inspect", "memory://shelf/mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == FRAMES


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


def test_stats_are_shown_and_kept(capsys: pytest.CaptureFixture):
    assert main(["data", "stats", "data", "--write", "--json"]) == 0
    captured = capsys.readouterr()
    ranges = {(d["space"], d["index"]): d for d in json.loads(captured.out)["dimensions"]}
    columns = pq.read_table(next(Path("data/data").rglob("*.parquet")))
    x = np.array(columns["observation.state"].to_pylist())[:, 0]
    assert ranges["state", 0]["mean"] == pytest.approx(x.mean(), rel=1e-5)
    assert ranges["state", 0]["q99"] == pytest.approx(np.quantile(x, 0.99), rel=1e-5)
    kept = Path(captured.err.strip().splitlines()[-1])
    assert json.loads(kept.read_text())["state"]["left arm position x"]["count"] == FRAMES
    assert main(["data", "stats", "data"]) == 0
    assert "left arm translation z" in capsys.readouterr().out


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


def test_ingested_sets_of_one_name_get_folders_of_their_own():
    paths = ["x/a", "x/a-3", "y/a", "z/a", "w/a-3"]
    assert _different_names([DatasetConfig(path) for path in paths]) == ["a", "a-3", "a-2", "a-4", "a-3-2"]


def test_convert_reads_back_the_same(tmp_path: Path, capsys: pytest.CaptureFixture):
    target = tmp_path / "converted"
    assert main(["data", "convert", "data", str(target), "--episodes", "3"]) == 0
    assert f"{target}: 3 episodes" in capsys.readouterr().out
    assert main(["data", "inspect", str(target), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["episodes"], found["format"]) == (3, "lerobot")
    assert {d["name"] for d in found["dimensions"]} >= {"left arm position x", "left arm translation z"}
    assert main(["data", "convert", "data", str(target)]) == 2
    assert main(["data", "convert", "unknown", str(tmp_path / "other")]) == 2
    assert "Describe its columns" in capsys.readouterr().err


def test_the_documents_own_example_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """docs/data.md: an arm in millimetres and degrees, described in YAML only."""
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```yaml\n(# mixture.yaml\n.*?)```", (ROOT / "docs/data.md").read_text(), flags=re.DOTALL)
    Path("mixture.yaml").write_text(example)
    raw = np.tile(np.array([300, -200, 150, 0, 0, 90, 80], dtype=np.float32), (20, 1))
    raw[:, 0] += np.arange(20)
    raw[10:, 6] = 0
    features = {"observation.state": 7, "action": 7}
    with LeRobotWriter("data/mine", 10, "my_arm", {"front": (SIZE, SIZE)}, features) as writer:
        frames = {"front": np.zeros((20, SIZE, SIZE, 3), dtype=np.uint8)}
        writer.add_episode(frames, {"observation.state": raw, "action": np.sign(raw - 1)}, "push the mug")
    assert main(["data", "inspect", "mixture.yaml", "--dataset", "mine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    ranges = {(d["space"], d["index"]): (d["low"], d["high"]) for d in found["dimensions"]}
    assert ranges["state", 0] == pytest.approx((0.3, 0.319))
    assert ranges["state", 5] == pytest.approx((0.5**0.5, 0.5**0.5))  # a quarter turn about z
    assert ranges["state", 7] == (0, 1)
    assert ranges["action", 0] == pytest.approx((0.001, 0.001), abs=1e-6)
    assert ranges["action", 6] == (0, 1)


def test_the_commands_are_listed_once():
    import argparse

    parser = argparse.ArgumentParser()
    add_data_commands(parser.add_subparsers())
    assert "data" in parser.format_help()


def test_a_folder_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture) -> None:
    Path("file").write_text("in the way")
    assert main(["data", "view", "unknown", "--labelled_share", "0", "--out", "file/page.html"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error:")
    assert "file" in said
    assert "Traceback" not in said
