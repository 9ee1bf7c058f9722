"""What must not leave the machine, nor stand in a log."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.vla.hub.conftest import make_run
from vla.hub.run_files import collect
from vla.hub.secrets import find_home, find_secret, no_secrets_in_logs, redact, without_local_paths

HOME, USERS = "/" + "home", "/" + "Users"
# Put together here, so that no scanner takes this file for a leak.
SECRETS = {
    "a Hugging Face token": "hf_" + "aB3" * 12,
    "an OpenAI or Anthropic key": "sk-" + "ant-api03-" + "x1" * 20,
    "a GitHub token": "ghp_" + "a1" * 18,
    "a GitLab token": "glpat-" + "a1" * 10,
    "an npm token": "npm_" + "a1" * 18,
    "a JSON web token": "eyJ" + "hbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + "dozjgNryP4J3jVmNHl0w5N_X",
    "an AWS key": "AKIA" + "ABCD1234" * 2,
    "a Google key": "AIza" + "a1-_x" * 7,
    "a Slack token": "xoxb-" + "123456789012-abc",
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "a password in a URL": "https://alice:" + "hunter2@example.org/data",
    "a signed URL": "https://store.example/x?X-Amz-Signature=" + "0a1b" * 8,
    "a bearer token": "Authorization: Bearer " + "abcDEF123.x-y",
    "a key by its name": "wandb_api_key: " + "0123456789abcdef",
    "a secret by its name": "token: " + "abcdefghijkl123456",
}
NAMED = [
    "client_secret: " + "abcdefghijklmnop",
    '"clientSecret": "' + 'abcdefghijkl123"',
    "AccountName=x;AccountKey=" + "abcdefghijklmnop==",
    "secret: " + "hunter2hunter2",
    "SECRET=" + "0f8c1d2e3b4a5968",
    '"token": "' + '7b2c-19fe-aa3b-4d5e"',
    "refresh_token: " + "1//0gAbCdEf123456789",
    "refreshToken: " + "MTk4NjIy.Cl2FMQ.ZnCjm1XVW7vR",
]
HARMLESS = """
tokenizer: models/paligemma/tokenizer.model
max_text_tokens: 200
scene_tokens: 8
hf_token: null
password: none
source: https://huggingface.co/datasets/agibot-world/AgiBotWorld-Alpha
path: gs://gresearch/robotics/droid/1.0.0
bearer of news; sk-learn; task-oriented; email alice@example.org
{"content": "<loc0001>", "id": 256000, "special": false, "password": 1234567}
{"token":235000,"secret":12345678901234567,"Token":1,"\\u2581token":2,"▁secret:":4,"bos_token":"<bos>"}
token: models/paligemma2_v3/tokenizer_v2.model
text_token: reserved_special_token_12
pad_token: "<|reserved_special_token_12|>"
loss_token: 1.23456789012345e-05
loss/token: -0.00012345678901234567
token: paligemma-3b-pt-224
secret: null
token: float32
tokenizer: google/paligemma2-3b-pt-224-b8c9d0e1f2a3
image_tokens: {base_0_rgb: 256, left_wrist_0_rgb: 256}
regex: "\\w+\\d{14,}token: \\u0041"
eyJ is how base64 of JSON starts; npm_config_registry_of_this_machine; hf_checkpoint_of_the_published_model
"""


@pytest.mark.parametrize("kind", SECRETS)
def test_every_kind_is_found_named_and_hidden(kind: str) -> None:
    text = f"first: line\nsecond: {SECRETS[kind]} end\n"
    assert find_secret(text) == (2, kind)
    hidden = redact(text)
    assert "<secret>" in hidden
    assert find_secret(hidden) is None
    assert hidden.startswith("first: line\nsecond:")


def test_what_only_looks_a_little_like_one_is_left_alone() -> None:
    assert find_secret(HARMLESS) is None
    assert redact(HARMLESS) == HARMLESS


@pytest.mark.parametrize("text", NAMED)
def test_a_random_value_is_a_secret_by_what_it_is_called(text: str) -> None:
    assert find_secret(f"first: line\n{text}\n") is not None
    assert find_secret(redact(text)) is None


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_behind_jsons_escapes_are_found(kind: str) -> None:
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in SECRETS[kind])
    text = f'{{\n"k": "a\\n{escaped}"}}'
    assert SECRETS[kind] in json.loads(text)["k"]
    assert find_secret(text) == (2, kind)
    nested = json.dumps({"inner": text})
    assert find_secret(nested) == (1, kind)


def test_escapes_before_and_around_a_secret_do_not_hide_it() -> None:
    secret = SECRETS["a Hugging Face token"]
    assert find_secret(json.dumps({"k": f"first\n{secret}"})) == (1, "a Hugging Face token")
    assert find_secret(json.dumps({"k": json.dumps({"token": "abcdefghijkl" + "123456"})})) == (
        1,
        "a secret by its name",
    )
    assert find_secret('{"k": "https:\\/\\/alice:' + 'hunter2@example.org"}') == (1, "a password in a URL")
    assert find_secret('"\\x68' + secret[1:] + '"') == (1, "a Hugging Face token")
    assert find_home(f'a\n"{HOME}/alice"'.replace("/", "\\/")) == 2


def test_the_users_own_token_is_found_whatever_it_looks_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "opensesame")
    assert find_secret("a\nb opensesame c") == (2, "your Hugging Face token")
    assert redact("b opensesame c") == "b <secret> c"


def test_logs_of_any_library_and_level_are_redacted(capfd: pytest.CaptureFixture[str]) -> None:
    secret = SECRETS["a Hugging Face token"]
    logger = logging.getLogger("some.library")
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        with no_secrets_in_logs():
            logger.debug("header %s of %d", f"Bearer {secret}", 3)
            try:
                raise ValueError(f"refused {secret}")
            except ValueError:
                logger.exception("failed")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    said = capfd.readouterr().err
    assert "header Bearer <secret> of 3" in said
    assert "ValueError: refused <secret>" in said
    assert secret not in said
    assert logging.getLogRecordFactory() is logging.LogRecord


def test_absolute_paths_of_a_recipe_keep_their_name_only() -> None:
    text = (
        "data:\n- path: /disk/alice/droid\n- path: data/mine\nrun: ~/runs/x\nurl: gs://bucket/x\n"
        "windows: C:\\Users\\al\\w\n"
    )
    shorter, count = without_local_paths(text)
    assert shorter == (
        "data:\n- path: <local>/droid\n- path: data/mine\nrun: <local>/x\nurl: gs://bucket/x\nwindows: <local>/w\n"
    )
    assert count == 3
    assert without_local_paths("run: runs/x   # kept as it is\n") == ("run: runs/x   # kept as it is\n", 0)


def test_home_folders_are_seen() -> None:
    assert find_home(f"a\nb: '{HOME}/alice/x'") == 2
    assert find_home(f"{USERS}/alice/x") == 1
    assert find_home(f"x {Path.home()}/y") == 1
    assert find_home(f"https://example.org{HOME}/alice and data/home/x") is None


def test_a_token_in_the_recipe_stops_the_push(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", tracker={"key": SECRETS["a Hugging Face token"]})
    with pytest.raises(ValueError, match=r"recipe.yaml, line \d+: this looks like a Hugging Face token") as caught:
        collect(run)
    assert SECRETS["a Hugging Face token"] not in str(caught.value)


def test_a_local_path_in_the_recipe_is_cut_and_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", objective={"init_from": "/disk/secret-project/pi05_base"})
    files, notes = collect(run)
    recipe = next(file.content for file in files if file.path == "run/recipe.yaml")
    assert isinstance(recipe, bytes)
    assert b"secret-project" not in recipe
    assert b"<local>/pi05_base" in recipe
    assert notes == ["recipe.yaml: 1 absolute path(s) cut to <local>/NAME"]


def test_a_home_folder_in_the_models_configuration_stops_the_push(run: Path) -> None:
    (run / "model" / "config.json").write_text(f'{{\n"pretrained_path": "{HOME}/alice/w"}}')
    with pytest.raises(ValueError, match="config.json, line 2: this names a home folder"):
        collect(run)


@pytest.mark.parametrize("place", ["tensor", "metadata key", "metadata value"])
def test_a_token_in_the_weights_header_stops_the_push(run: Path, place: str) -> None:
    secret = SECRETS["a Hugging Face token"]
    tensors = {f"layer_{secret}" if place == "tensor" else "w": np.zeros(2, np.float32)}
    notes = {"metadata key": {secret: "x"}, "metadata value": {"note": f"of\n{secret}"}}.get(place)
    save_file(tensors, run / "model" / "model.safetensors", metadata=notes)
    with pytest.raises(ValueError, match="model.safetensors, line 1: this looks like a Hugging Face token") as caught:
        collect(run)
    assert secret not in str(caught.value)


@pytest.mark.parametrize("name", ["{}.json", "part-{}/config.json", "{}.exe", "run/{}.json"])
def test_a_token_in_a_file_name_stops_the_push_and_is_not_said(run: Path, name: str) -> None:
    secret = SECRETS["a Hugging Face token"]
    path = run / "model" / name.format(secret)
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    with pytest.raises(ValueError, match="the name looks like a Hugging Face token") as caught:
        collect(run)
    assert secret not in str(caught.value)


def test_a_token_behind_escapes_in_a_file_stops_the_push(run: Path) -> None:
    secret = SECRETS["a Hugging Face token"]
    (run / "model" / "config.json").write_text('{\n"k": "\\u0068' + secret[1:] + '"}')
    with pytest.raises(ValueError, match="config.json, line 2: this looks like a Hugging Face token"):
        collect(run)


def test_harmless_text_goes_up(run: Path) -> None:
    (run / "model" / "notes.txt").write_text(HARMLESS)
    tensors = {name: np.zeros(2, np.float32) for name in ("action_token", "secret", "paligemma.embed_tokens.weight")}
    save_file(tensors, run / "model" / "model.safetensors", metadata={"token": "12", "format": "pt"})
    files = {file.path: file.content for file in collect(run)[0]}
    assert files["notes.txt"] == HARMLESS.encode()


@pytest.mark.parametrize("name", ["old.bin", "scheduler.pt", "notes.txt", "sub/data.json"])
def test_pickles_are_refused_by_name_or_content(run: Path, name: str) -> None:
    path = run / "model" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x80\x04\x95\x00")
    with pytest.raises(ValueError, match="is a pickle"):
        collect(run)


def test_links_out_of_the_run_are_refused(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    link = run / "model" / "linked.json"
    link.symlink_to(outside)
    with pytest.raises(ValueError, match="link out of the run"):
        collect(run)
    link.unlink()
    link.symlink_to(tmp_path)
    with pytest.raises(ValueError, match="link out of the run"):
        collect(run)
    link.unlink()
    (run / "versions.json").unlink()
    (run / "versions.json").symlink_to(outside)
    with pytest.raises(ValueError, match="link out of the run"):
        collect(run)


def test_links_inside_the_run_are_followed(run: Path) -> None:
    (run / "model" / "copy.json").symlink_to(run / "model" / "config.json")
    file = next(file for file in collect(run)[0] if file.path == "copy.json")
    assert file.size == (run / "model" / "config.json").stat().st_size


def test_what_is_no_plain_file_is_refused(run: Path) -> None:
    os.mkfifo(run / "model" / "pipe.json")
    with pytest.raises(ValueError, match="not a plain file"):
        collect(run)


def test_weights_that_are_not_whole_are_refused(run: Path) -> None:
    path = run / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        collect(run)


def test_a_run_without_a_model_is_told_when_it_comes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="appears when training is done"):
        collect(tmp_path)
