"""Pushing a run to a real HTTP server that answers as the Hub does."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from tests.vla.hub.conftest import make_run
from tests.vla.hub.hub_server import OTHER, READ, Hub
from vla.hub.errors import HubError, TransferStoppedError
from vla.hub.push import Pushed, push
from vla.hub.run_files import Outgoing, collect

REPO = "alice/drawer"

# huggingface_hub 2.4 hands httpx2 its uploads the old way; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def push_run(run: Path, api: HfApi, tag: str = "step-600", card: bytes = b"# card\n", **options: Any) -> Pushed:
    files, _ = collect(run)
    return push([*files, Outgoing("README.md", card)], REPO, tag, api=api, **options)


def test_all_of_the_run_and_nothing_else(hub: Hub, api: HfApi, run: Path) -> None:
    done = push_run(run, api)
    held = hub.repos[REPO]
    assert set(held.files) == {
        ".gitattributes",
        "README.md",
        "config.json",
        "model.safetensors",
        "normalisation.json",
        "processor.json",
        "tokenizer.json",
        "run/done.json",
        "run/manifest.json",
        "run/metrics.jsonl",
        "run/recipe.yaml",
        "run/versions.json",
    }
    assert held.files["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()
    assert held.files["run/metrics.jsonl"].endswith(b'"loss": 0.5}\n'), "a half-written line does not go up"
    assert held.private
    assert done.private
    assert held.tags == {"step-600": held.head} == {done.tag: done.commit}
    assert len(held.trees) == 2, "one commit of ours on the Hub's own"
    listed = json.loads(held.files["run/manifest.json"])["files"]
    assert listed["model.safetensors"]["sha256"] == hashlib.sha256(held.files["model.safetensors"]).hexdigest()


def test_weights_above_a_part_go_up_in_parts(hub: Hub, api: HfApi, run: Path) -> None:
    hub.part_bytes = 100_000
    push_run(run, api)
    assert hub.count(r"PUT /storage/\w+/\d+$") == 3
    assert hub.repos[REPO].files["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()


def test_the_same_again_uploads_nothing(hub: Hub, api: HfApi, run: Path) -> None:
    first = push_run(run, api)
    hub.log.clear()
    again = push_run(run, api)
    assert (again.uploaded, again.deleted, again.bytes_uploaded) == ((), (), 0)
    assert again.commit == first.commit
    assert hub.count(r"^(PUT|POST) ") == 0


def test_a_new_step_is_a_new_tag_and_sends_only_what_changed(hub: Hub, api: HfApi, run: Path, tmp_path: Path) -> None:
    first = push_run(run, api)
    later = make_run(tmp_path / "later", seed=1)
    (later / "model" / "tokenizer.json").unlink()
    done = push_run(later, api, "step-1200")
    held = hub.repos[REPO]
    assert done.uploaded == ("model.safetensors", "run/manifest.json")
    assert done.deleted == ("tokenizer.json",)
    assert held.tags == {"step-600": first.commit, "step-1200": held.head}
    assert held.trees[first.commit]["model.safetensors"][0] == (run / "model" / "model.safetensors").read_bytes()


def test_a_tag_never_moves_to_other_weights(hub: Hub, api: HfApi, run: Path, tmp_path: Path) -> None:
    push_run(run, api)
    hub.log.clear()
    with pytest.raises(HubError, match=r"tag `step-600` already names another model \(model.safetensors differs\)"):
        push_run(make_run(tmp_path / "other", seed=1), api)
    assert hub.count(r"^(PUT|POST) ") == 0


def test_a_tag_stays_where_it_is_when_only_the_card_is_new(hub: Hub, api: HfApi, run: Path) -> None:
    first = push_run(run, api)
    said: list[str] = []
    done = push_run(run, api, card=b"# card with numbers\n", say=said.append)
    assert hub.repos[REPO].tags == {"step-600": first.commit}
    assert done.commit != first.commit
    assert hub.repos[REPO].files["README.md"] == b"# card with numbers\n"
    assert any("tag step-600 stays" in line for line in said)


def test_a_push_that_stopped_before_its_tag_is_finished(hub: Hub, api: HfApi, run: Path) -> None:
    hub.fail[r"POST .*/tag/"] = (503, "try later")
    with pytest.raises(TransferStoppedError, match="503"):
        push_run(run, api)
    assert hub.repos[REPO].tags == {}
    hub.fail.clear()
    done = push_run(run, api)
    assert done.uploaded == ()
    assert hub.repos[REPO].tags == {"step-600": hub.repos[REPO].head}


def test_a_connection_that_drops_is_taken_up_again(hub: Hub, api: HfApi, run: Path) -> None:
    hub.part_bytes = 100_000
    hub.drop_upload_after = [50_000]
    push_run(run, api)
    assert not hub.drop_upload_after, "the connection was cut"
    assert hub.repos[REPO].files["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()


def test_weights_that_arrived_are_not_sent_again(hub: Hub, api: HfApi, run: Path) -> None:
    hub.fail[r"POST .*/commit/"] = (500, "broken")
    with pytest.raises(TransferStoppedError, match="run the same command again"):
        push_run(run, api)
    assert "model.safetensors" not in hub.repos[REPO].files, "nothing is seen of a push before its commit"
    hub.fail.clear()
    hub.log.clear()
    push_run(run, api)
    assert hub.count("PUT /storage/") == 0
    assert hub.repos[REPO].files["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()


def test_public_only_when_asked_and_only_when_all_is_there(hub: Hub, api: HfApi, run: Path) -> None:
    done = push_run(run, api, public=True)
    assert not hub.repos[REPO].private
    assert not done.private
    paths = [f"{method} {path}" for method, path, _ in hub.log]
    assert paths.index(f"PUT /api/models/{REPO}/settings") > paths.index(f"POST /api/models/{REPO}/commit/main")
    with pytest.raises(HubError, match="is public, so everyone would see this: add `--public`"):
        push_run(run, api)


def test_a_card_edited_on_the_hub_is_not_written_over_silently(hub: Hub, api: HfApi, run: Path) -> None:
    push_run(run, api)
    held = hub.repos[REPO]
    held.commit({**held.trees[held.head], "README.md": (b"# by hand\n", False)})
    with pytest.raises(HubError, match="--card replace"):
        push_run(run, api, card=b"# new\n")
    files, _ = collect(run)
    files.append(Outgoing("README.md", b"# new\n"))
    push(files, REPO, "step-600", card="keep", api=api)
    assert held.files["README.md"] == b"# by hand\n"
    push(files, REPO, "step-600", card="replace", api=api)
    assert held.files["README.md"] == b"# new\n"


def test_files_others_put_there_stay(hub: Hub, api: HfApi, run: Path, tmp_path: Path) -> None:
    push_run(run, api)
    held = hub.repos[REPO]
    held.commit({**held.trees[held.head], "demo.mp4": (b"film", False)})
    push_run(make_run(tmp_path / "later", seed=1), api, "step-1200")
    assert held.files["demo.mp4"] == b"film"


@pytest.mark.parametrize(
    ("token", "words"),
    [(READ, "may only read"), (OTHER, "may not write"), ("hf_wrongwrongwrongwrongwrong", "does not accept this token")],
)
def test_tokens_that_will_not_do(hub: Hub, run: Path, token: str, words: str) -> None:
    with pytest.raises(HubError, match=words):
        push_run(run, HfApi(endpoint=hub.url, token=token))
    assert REPO not in hub.repos


def test_no_token(hub: Hub, run: Path) -> None:
    with pytest.raises(HubError, match=r"no Hugging Face token; log in with `hf auth login`, or set HF_TOKEN"):
        push_run(run, HfApi(endpoint=hub.url))


@pytest.mark.parametrize(("repo", "tag"), [("drawer", "a"), ("a/b/c", "a"), ("alice/dra wer", "a"), (REPO, "../x")])
def test_names_that_will_not_do(hub: Hub, api: HfApi, run: Path, repo: str, tag: str) -> None:
    with pytest.raises(HubError, match=r"USER/NAME|--tag"):
        push(collect(run)[0], repo, tag, api=api)
    assert not hub.log


def test_weights_that_change_under_way_are_not_committed(
    hub: Hub, api: HfApi, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = api.preupload_lfs_files

    def disturbed(*arguments: Any, **named: Any) -> None:
        sent(*arguments, **named)
        os.utime(run / "model" / "model.safetensors", ns=(1, 1))

    monkeypatch.setattr(api, "preupload_lfs_files", disturbed)
    with pytest.raises(ValueError, match="changed while it was uploaded"):
        push_run(run, api)
    assert "model.safetensors" not in hub.repos[REPO].files


def test_somebody_elses_push_at_the_same_time_is_not_written_over(
    hub: Hub, api: HfApi, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = api.preupload_lfs_files

    def overtaken(*arguments: Any, **named: Any) -> None:
        sent(*arguments, **named)
        held = hub.repos[REPO]
        held.commit({**held.trees[held.head], "theirs.json": (b"{}", False)})

    monkeypatch.setattr(api, "preupload_lfs_files", overtaken)
    with pytest.raises(HubError, match="changed while this was under way; run the same command again"):
        push_run(run, api)
    assert set(hub.repos[REPO].files) == {".gitattributes", "theirs.json"}


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (402, "the Hub refuses with status 402. The Hub says: no room", HubError),
        (404, "knows no such model", HubError),
        (429, "answers 429 for now", TransferStoppedError),
        (502, "answers 502 for now", TransferStoppedError),
    ],
)
def test_what_the_hub_answers_is_put_in_words(
    hub: Hub, api: HfApi, run: Path, status: int, words: str, kind: type[Exception]
) -> None:
    hub.fail["POST /api/repos/create"] = (status, "no room")
    with pytest.raises(kind, match=words):
        push_run(run, api)
