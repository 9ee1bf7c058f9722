"""`vla push` and `vla pull` as typed, against a real HTTP server that answers as the Hub does."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from recipes.cli import main
from tests.vla.hub.conftest import hub as hub  # the fixture
from tests.vla.hub.conftest import make_run
from tests.vla.hub.hub_server import WRITE, Hub

REPO = "alice/drawer"

# huggingface_hub 2.4 hands httpx2 its uploads the old way; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_TOKEN", WRITE)
    return WRITE


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A pipeline's run folder: two trained policies, rollouts of both and of the expert."""
    root = tmp_path / "study"
    steps = []
    for name, seed in (("policy-s0", 0), ("policy-s1", 1)):
        make_run(root / name, seed)
        steps.append({"name": name, "kind": "finetune", "folder": name})
    for policy, arm, outcomes in (
        ("policy-s0", "distilled", [True] * 3 + [False]),
        ("policy-s1", "distilled", [False] * 4),
        ("expert", "expert", [True] * 4),
    ):
        folder = root / f"rollout-{policy}"
        folder.mkdir()
        named = policy if policy == "expert" else f"runs/study/{policy}"
        (folder / "recipe.yaml").write_text(yaml.safe_dump({"stage": "rollout", "policy": named}))
        rows = [
            {"suite": "metaworld", "task": "drawer-open", "init": i, "seed": 7, "policy": arm, "success_any": ok}
            | {"labels": {"demos": 2, "train_seed": int(policy[-1]) if policy[-1].isdigit() else None}}
            for i, ok in enumerate(outcomes)
        ]
        (folder / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        steps.append({"name": folder.name, "kind": "rollout", "folder": folder.name})
    (root / "pipeline.json").write_text(json.dumps({"recipe": "x.yaml", "steps": steps}))
    return root


def test_there_and_back(hub: Hub, token: str, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = study / "policy-s0"
    assert main(["push", str(run), "--repo", REPO, "--license", "apache-2.0"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{hub.url}/{REPO}/tree/step-600"
    assert said[1].startswith("private, commit ")
    assert "tag step-600: 12 file(s), 0.2 MB uploaded" in said[1]
    assert main(["push", str(run), "--repo", REPO, "--license", "apache-2.0"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("tag step-600: nothing had changed")

    there = tmp_path / "there"
    assert main(["pull", REPO, "--revision", "step-600", "--to", str(there)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == str(there)
    assert "60,000 parameters" in said[1]
    assert said[2] == "  licence: apache-2.0"
    assert (there / "model" / "model.safetensors").read_bytes() == (run / "model" / "model.safetensors").read_bytes()
    assert (there / "README.md").read_text().startswith("---\nlicense: apache-2.0\n")


def test_the_card_has_this_models_rollouts_and_the_studys(hub: Hub, token: str, study: Path) -> None:
    assert main(["push", str(study), "--stage", "policy-s0", "--repo", REPO]) == 0
    files = hub.repos[REPO].files
    card = files["README.md"].decode()
    assert "| metaworld | drawer-open | 0.75 | 0.30–0.95 | 4 |" in card
    assert "| Distilled | 2 | 0.38 | 0.14–0.69 | 8 |" in card
    assert "| Scripted expert |  | 1.00 | 0.51–1.00 | 4 |" in card
    numbers = json.loads(files["run/results.json"])
    assert [(row["task"], row["successes"], row["trials"]) for row in numbers["model"]] == [("drawer-open", 3, 4)]
    assert len(numbers["study"]) == 2


def test_rollouts_from_elsewhere_are_named(hub: Hub, token: str, study: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "alone")
    other = tmp_path / "rollout"
    other.mkdir()
    (other / "recipe.yaml").write_text(yaml.safe_dump({"policy": str(run / "model")}))
    row = {"suite": "libero", "task": "mug", "init": 0, "seed": 7, "policy": "mine", "success_any": True}
    (other / "episodes.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["push", str(run), "--repo", REPO, "--results", str(other)]) == 0
    assert "| libero | mug | 1.00 | 0.21–1.00 | 1 |" in hub.repos[REPO].files["README.md"].decode()
    assert main(["push", str(run), "--repo", REPO, "--results", str(study / "rollout-expert")]) == 2


def test_results_travel_with_a_pulled_run(
    hub: Hub, token: str, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["push", str(study / "policy-s0"), "--repo", REPO]) == 0
    assert main(["pull", REPO]) == 0
    assert main(["push", "runs/drawer", "--repo", "alice/copy"]) == 0
    kept = hub.repos["alice/copy"].files
    assert kept["run/results.json"] == hub.repos[REPO].files["run/results.json"]
    assert kept["model.safetensors"] == hub.repos[REPO].files["model.safetensors"]


def test_which_of_several_models_is_asked(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for extra in ([], ["--stage", "nothing"]):
        assert main(["push", str(study), "--repo", REPO, *extra]) == 2
        assert "Choose with `--stage` among: policy-s0, policy-s1." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["push", "nowhere", "--repo", REPO], "nowhere does not exist"),
        (["push", "{run}/model", "--repo", REPO], "is the model alone; give its run folder"),
        (["push", "{run}", "--repo", REPO, "--stage", "x"], "not a pipeline's run folder; leave --stage out"),
        (["push", "{run}", "--repo", REPO, "--license", "My Own"], "write the Hub's id of it"),
        (["push", "{run}", "--repo", REPO, "--base-model", "pi05"], "as lerobot/pi05_base"),
        (["push", "{run}", "--repo", "drawer"], "write USER/NAME"),
        (["push", "{run}", "--repo", REPO, "--tag", "main"], "not `main`"),
        (["push", "{run}", "--repo", REPO, "--privat", "x"], "does not know --privat; `vla push --help`"),
        (["push", "{run}", "--repo", REPO], "no Hugging Face token; log in with `hf auth login`, or set HF_TOKEN"),
        (["pull", "alice/nothing"], "log in with `hf auth login`"),
        (["pull", "nothing"], "write USER/NAME"),
    ],
)
def test_refusals_in_words_and_status_2(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    run = make_run(tmp_path / "run")
    assert main([argument.format(run=run) for argument in arguments]) == 2
    assert words in capsys.readouterr().err.replace("\n", " ")


def test_a_dry_run_asks_nobody(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(make_run(tmp_path / "run")), "--repo", REPO, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "240,072  model.safetensors" in said.out
    assert "checkpoints" not in said.out
    assert "---\nlicense: unknown\n" in said.out
    assert "licence: unknown (none was stated" in said.err
    assert not hub.log


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    """Of a process that knows this Hub alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    named = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "PYTHONWARNINGS": "ignore"}
    return {**kept, **named, **more}


def vla(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "recipes.cli", *arguments]


def test_a_push_that_was_killed_goes_on(hub: Hub, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", values=200_000)
    hub.part_bytes, hub.stall_upload_after = 200_000, 100_000
    process = subprocess.Popen(
        vla("push", str(run), "--repo", REPO), env=environment(hub, tmp_path / "home", HF_TOKEN=WRITE)
    )
    assert hub.stalled.wait(60), "the upload of the weights began"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert set(hub.repos[REPO].files) == {".gitattributes"}, "nothing is seen of a push before its commit"
    hub.stall_upload_after = None
    done = subprocess.run(
        vla("push", str(run), "--repo", REPO),
        env=environment(hub, tmp_path / "home", HF_TOKEN=WRITE),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    held = hub.repos[REPO]
    assert held.files["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()
    assert held.tags == {"step-600": held.head}
    assert len(held.trees) == 2


@pytest.mark.parametrize("refusal", [None, (403, "refused: {authorization}")])
def test_the_token_is_never_shown(hub: Hub, tmp_path: Path, refusal: tuple[int, str] | None) -> None:
    """At the highest verbosity, with a server that echoes it, in everything written to the screen or uploaded."""
    run = make_run(tmp_path / "run")
    if refusal is not None:
        hub.fail[r"POST .*/commit/"] = refusal
    script = (
        "import logging, sys; logging.basicConfig(level=logging.DEBUG); "
        "from recipes.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "push", str(run), "--repo", REPO],
        env=environment(hub, tmp_path / "home", HF_TOKEN=WRITE, HF_DEBUG="1", HF_HUB_VERBOSITY="debug"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == (0 if refusal is None else 2), done.stderr
    assert "DEBUG:huggingface_hub" in done.stderr, "the libraries spoke"
    assert WRITE not in done.stdout + done.stderr
    if refusal is not None:
        assert "<secret>" in done.stderr
    assert not any(WRITE.encode() in content for content in hub.repos[REPO].files.values())
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(WRITE.encode() in path.read_bytes() for path in written)


def test_offline_says_so_before_anything_is_asked(
    hub: Hub, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    run = make_run(tmp_path / "run")
    for arguments in (["push", str(run), "--repo", REPO], ["pull", REPO, "--to", str(tmp_path / "there")]):
        assert main(arguments) == 2
        assert "HF_HUB_OFFLINE is set, so the Hub is not asked" in capsys.readouterr().err
    assert not hub.log


def test_the_default_endpoint_is_the_environments(hub: Hub) -> None:
    assert hub.url == constants.ENDPOINT, "or these tests would reach out"
