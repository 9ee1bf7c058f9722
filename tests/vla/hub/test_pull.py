"""Pulling a model from a real HTTP server that answers as the Hub does."""

import hashlib
import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from tests.vla.hub.conftest import make_run
from tests.vla.hub.hub_server import OTHER, WRITE, Hub, Repo
from vla.hub.errors import HubError, TransferStoppedError
from vla.hub.pull import download_model, pull
from vla.hub.push import push
from vla.hub.run_files import Outgoing, collect

REPO = "alice/drawer"

# huggingface_hub 2.4 hands httpx2 its uploads the old way; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def pushed(hub: Hub, api: HfApi, run: Path) -> str:
    files = [*collect(run)[0], Outgoing("README.md", b"---\nlicense: gemma\n---\n# card\n")]
    return push(files, REPO, "step-600", api=api).commit


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def put(hub: Hub, files: dict[str, bytes]) -> None:
    """A public repository that others made."""
    repo = hub.repos["bob/theirs"] = Repo(private=False)
    hub.objects.update({hashlib.sha256(content).hexdigest(): content for content in files.values()})
    repo.commit({path: (content, path.endswith(".safetensors")) for path, content in files.items()})


def test_a_pulled_folder_is_the_run_again(hub: Hub, api: HfApi, run: Path, pushed: str, tmp_path: Path) -> None:
    done = pull(REPO, tmp_path / "there", "step-600", api)
    assert done.fresh
    assert (done.commit, done.licence, done.parameters) == (pushed, "gemma", 60_000)
    for name in ("model/model.safetensors", "model/config.json", "model/tokenizer.json", "recipe.yaml", "done.json"):
        assert (done.folder / name).read_bytes() == (run / name).read_bytes(), name
    assert json.loads((done.folder / "pulled.json").read_text()) == {
        "repo": REPO,
        "commit": pushed,
        "license": "gemma",
    }
    assert sorted(p.name for p in tmp_path.iterdir() if "there" in p.name) == ["there"]
    again = {file.path: file.digests for file in collect(done.folder)[0]}
    assert again == {file.path: file.digests for file in collect(run)[0]}


def test_the_token_goes_to_the_hub_only(hub: Hub, api: HfApi, pushed: str, tmp_path: Path) -> None:
    pull(REPO, tmp_path / "there", api=api)
    assert hub.count("GET /storage/") == 1
    assert not hub.authorised_storage


def test_the_same_again_downloads_nothing(hub: Hub, api: HfApi, pushed: str, tmp_path: Path) -> None:
    pull(REPO, tmp_path / "there", api=api)
    hub.log.clear()
    assert not pull(REPO, tmp_path / "there", pushed[:10], api).fresh
    assert hub.count("GET /(storage|alice)") == 0


def test_another_commit_does_not_go_over_what_is_there(hub: Hub, api: HfApi, pushed: str, tmp_path: Path) -> None:
    pull(REPO, tmp_path / "there", api=api)
    push(collect(make_run(tmp_path / "later", seed=1))[0], REPO, "step-1200", card="keep", api=api)
    with pytest.raises(ValueError, match=f"exists and holds {REPO} at {pushed[:8]}; give another folder with `--to"):
        pull(REPO, tmp_path / "there", api=api)
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="exists and is something else"):
        pull(REPO, tmp_path / "mine", api=api)


@pytest.mark.parametrize("link", [".there.partial", "there", ".there.partial/model", ".there.partial/recipe.yaml"])
def test_a_link_is_never_written_or_emptied_through(
    hub: Hub, api: HfApi, pushed: str, tmp_path: Path, link: str
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    path = tmp_path / link
    if "/" in link:  # as an interrupted pull of this commit left the folder, but for the link
        path.parent.mkdir()
        marker = {"repo": REPO, "commit": pushed, "license": "gemma"}
        (path.parent / "pulled.json").write_text(json.dumps(marker, indent=1))
    path.symlink_to(precious)
    with pytest.raises(ValueError, match=f"{path} is a link to {precious}, .* remove the link"):
        pull(REPO, tmp_path / "there", api=api)
    assert [(p.name, p.read_text()) for p in precious.iterdir()] == [("thesis.txt", "years of work")]
    assert hub.count("GET /storage/") == 0


def test_a_link_to_nothing_and_a_file_in_the_way_are_said(hub: Hub, api: HfApi, pushed: str, tmp_path: Path) -> None:
    aside = tmp_path / ".there.partial"
    aside.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is a link to"):
        pull(REPO, tmp_path / "there", api=api)
    aside.unlink()
    aside.write_text("mine")
    with pytest.raises(ValueError, match="is in the way, and is no folder"):
        pull(REPO, tmp_path / "there", api=api)
    assert aside.read_text() == "mine"


def test_links_that_another_commit_left_go_but_not_what_they_point_to(
    hub: Hub, api: HfApi, pushed: str, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    aside = tmp_path / ".there.partial"
    aside.mkdir()
    (aside / "pulled.json").write_text("{}")
    (aside / "model").symlink_to(precious)
    (aside / ".pulled.json.partial").symlink_to(precious / "thesis.txt")
    assert pull(REPO, tmp_path / "there", api=api).fresh
    assert [(p.name, p.read_text()) for p in precious.iterdir()] == [("thesis.txt", "years of work")]


def test_a_broken_connection_is_taken_up_where_it_stopped(
    hub: Hub, api: HfApi, run: Path, pushed: str, tmp_path: Path
) -> None:
    hub.drop_download_after = [100_000, 0, 50_000]
    done = pull(REPO, tmp_path / "there", api=api)
    assert (done.folder / "model" / "model.safetensors").read_bytes() == weights(run)
    assert hub.count("GET /storage/") == 4
    assert hub.sent == len(weights(run)), "no byte came twice"


def test_a_pull_that_gave_up_goes_on(hub: Hub, api: HfApi, run: Path, pushed: str, tmp_path: Path) -> None:
    hub.drop_download_after = [100_000, *[0] * 20]
    with pytest.raises(TransferStoppedError, match="goes on where this one stopped"):
        pull(REPO, tmp_path / "there", api=api)
    assert not (tmp_path / "there").exists()
    hub.drop_download_after = []
    done = pull(REPO, tmp_path / "there", api=api)
    assert (done.folder / "model" / "model.safetensors").read_bytes() == weights(run)
    assert hub.sent == len(weights(run)), "no byte came twice"


def test_what_another_commit_left_behind_is_not_mixed_in(hub: Hub, api: HfApi, pushed: str, tmp_path: Path) -> None:
    hub.drop_download_after = [100_000, *[0] * 20]
    with pytest.raises(TransferStoppedError):
        pull(REPO, tmp_path / "there", api=api)
    hub.drop_download_after = []
    later = make_run(tmp_path / "later", seed=1)
    push(collect(later)[0], REPO, "step-1200", card="keep", api=api)
    done = pull(REPO, tmp_path / "there", api=api)
    assert (done.folder / "model" / "model.safetensors").read_bytes() == weights(later)


@pytest.mark.parametrize("kind", ["other bytes", "longer", "shorter"])
def test_damaged_weights_never_appear(hub: Hub, api: HfApi, run: Path, pushed: str, tmp_path: Path, kind: str) -> None:
    whole = weights(run)
    wrong = {"other bytes": whole[:-1] + b"?", "longer": whole + b"more", "shorter": whole[:-100]}[kind]
    hub.damage[hashlib.sha256(whole).hexdigest()] = wrong
    with pytest.raises((ValueError, TransferStoppedError)):
        pull(REPO, tmp_path / "there", api=api)
    assert not (tmp_path / "there").exists()
    hub.damage.clear()
    assert (pull(REPO, tmp_path / "there", api=api).folder / "model" / "model.safetensors").read_bytes() == whole


def test_code_and_pickles_are_not_taken(hub: Hub, api: HfApi, run: Path, tmp_path: Path) -> None:
    put(hub, {"model.safetensors": weights(run), "modeling.py": b"import os", "old.bin": b"\x80\x02", "LICENSE": b"x"})
    done = pull("bob/theirs", tmp_path / "there", api=api)
    assert done.left_out == ("modeling.py", "old.bin")
    assert {p.name for p in done.folder.rglob("*") if p.is_file()} == {"model.safetensors", "LICENSE", "pulled.json"}
    assert hub.count("modeling.py|old.bin") == 0


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"pytorch_model.bin": b"\x80\x02"}, r"only pickles \(pytorch_model.bin\), which run code"),
        ({"README.md": b"hello"}, "no weights"),
        ({"model.safetensors": b"", "config.json": b"\x80\x04\x95rest"}, "config.json is a pickle under another name"),
        ({"model.safetensors": b"", "../evil.json": b"{}"}, r"a file named `'../evil.json'`"),
        ({"model.safetensors": b"not a header"}, "not a whole safetensors file"),
    ],
)
def test_repositories_that_are_refused(
    hub: Hub, api: HfApi, run: Path, tmp_path: Path, files: dict[str, bytes], words: str
) -> None:
    put(hub, {path: content or weights(run) for path, content in files.items()})
    with pytest.raises(ValueError, match=words):
        pull("bob/theirs", tmp_path / "deep" / "there", api=api)
    assert not (tmp_path / "deep" / "there").exists()
    assert not (tmp_path / "evil.json").exists()


@pytest.mark.parametrize(
    ("repo", "revision", "token", "words"),
    [
        (REPO, "step-9", WRITE, "has no revision `step-9`; give one of its tags"),
        ("alice/nothing", None, WRITE, "knows no such model"),
        (REPO, None, OTHER, "knows no such model, or it is private"),
        (REPO, None, False, "does not accept this token, or there is none; log in with `hf auth login`"),
        (REPO, None, "hf_wrongwrongwrongwrongwrong", "does not accept this token"),
        ("just-a-name", None, WRITE, "write USER/NAME"),
    ],
)
def test_refusals_in_words(
    hub: Hub, pushed: str, tmp_path: Path, repo: str, revision: str | None, token: str, words: str
) -> None:
    api = HfApi(endpoint=hub.url, token=token)
    with pytest.raises(HubError, match=words):
        pull(repo, tmp_path / "there", revision, api)
    with pytest.raises(HubError, match=words if "/" in repo else "."):
        download_model(repo, revision, api)


def test_no_network(tmp_path: Path, hub: Hub) -> None:
    api = HfApi(endpoint="http://127.0.0.1:9", token=WRITE)  # the discard port: nobody listens
    with pytest.raises(HubError, match="the Hub cannot be reached .* check the network"):
        pull(REPO, tmp_path / "there", api=api)
    with pytest.raises(HubError, match="the Hub cannot be reached .* check the network"):
        download_model(REPO, api=api)


def test_a_model_comes_into_the_cache_once(hub: Hub, api: HfApi, run: Path, pushed: str) -> None:
    folder = download_model(REPO, "step-600", api)
    assert (folder / "model.safetensors").read_bytes() == weights(run)
    assert {p.name for p in folder.iterdir()} == {
        "model.safetensors",
        "config.json",
        "processor.json",
        "tokenizer.json",
        "normalisation.json",
    }
    hub.log.clear()
    assert download_model(REPO, "step-600", api) == folder
    assert hub.count("GET /(storage|alice)") == 0


def test_offline_gives_what_the_cache_holds(
    hub: Hub, api: HfApi, pushed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = download_model(REPO, "step-600", api)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.log.clear()
    assert download_model(REPO, "step-600", api) == folder
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set, so the Hub is not asked, and it is not in the cache"):
        download_model("alice/other", None, api)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        pull(REPO, tmp_path / "there", api=api)
    assert not hub.log


def test_a_repository_without_safetensors_is_no_model(hub: Hub, api: HfApi) -> None:
    put(hub, {"pytorch_model.bin": b"\x80\x02", "config.json": b"{}"})
    with pytest.raises(HubError, match="holds no model.safetensors"):
        download_model("bob/theirs", api=api)
    assert hub.count("pytorch_model.bin") == 0
