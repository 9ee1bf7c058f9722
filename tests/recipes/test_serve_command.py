"""`vla serve` as a user starts and stops it, and what it says when it cannot start."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recipes.cli import main
from recipes.loading import RecipeError
from recipes.serve_command import TOKEN_VARIABLE, camera_table, read_token
from tests.vla.serve.nano_policy import write_nano_policy

openpi = pytest.importorskip("openpi_client.websocket_client_policy", reason="openpi-client: `make setup` installs it")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nano_policy(tmp_path_factory.mktemp("nano"))


@pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")
def test_start_ask_and_stop(folder: Path):
    secret = "nobody-guesses-this"
    command = [sys.executable, "-m", "recipes.cli", "serve", str(folder), "--port", "0"]
    command += ["--cameras", "observation/image=front", "observation/wrist_image=wrist", "--prompt", "open the drawer"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, TOKEN_VARIABLE: secret, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"serving on ws://127\.0\.0\.1:(\d+) \(with the token only\); Ctrl-C stops\n", line)
        assert found, line + process.communicate()[1]
        client = openpi.WebsocketClientPolicy("127.0.0.1", int(found[1]), secret)
        frame = np.zeros((32, 32, 3), np.uint8)
        state = np.zeros(client.get_server_metadata()["state_dim"])
        answer = client.infer(
            {"observation/image": frame, "observation/wrist_image": frame, "observation/state": state}
        )
        assert answer["actions"].shape == (8, 4)
        assert np.isfinite(answer["actions"]).all()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        client._ws.close()
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out == "stopped\n"
    assert "connected; clients: 1" in err
    assert secret not in err


def test_a_port_in_use(folder: Path, capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", str(folder), "--port", str(taken.getsockname()[1])]) == 2
    assert "address already in use" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cameras", "image=side"], "the policy has no camera 'side'; it looks through"),
        (["--cameras", "image"], "--cameras image: write KEY=CAMERA"),
        (["--cameras", "a=front", "a=wrist"], "the key a is given twice"),
        (["--max-batch", "0"], "max_batch is 0; it must be at least 1"),
        (["--token-file", "nowhere"], "--token-file nowhere: there is no such file"),
        (["--token", "hidden"], "`vla serve` has no --token;"),
    ],
)
def test_words_before_it_starts(folder: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]):
    assert main(["serve", str(folder), *options]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said
    assert "hidden" not in said


def test_a_missing_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["serve", str(tmp_path / "nothing")]) == 2
    assert str(tmp_path) in "".join(capsys.readouterr().err.split())


def test_a_key_with_equals_signs():
    assert camera_table(["a=b=front"]) == {"a=b": "front"}


def test_the_token(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text("secret\n")
    assert read_token(path, {}) == "secret"
    assert read_token(None, {TOKEN_VARIABLE: "other"}) == "other"
    assert read_token(None, {}) is None
    with pytest.raises(RecipeError, match="leave one out") as raised:
        read_token(path, {TOKEN_VARIABLE: "other"})
    assert "other" not in str(raised.value)
    for bad in ("", " ", "tökén", "a\nb"):
        with pytest.raises(RecipeError, match="the token is empty or"):
            read_token(None, {TOKEN_VARIABLE: bad})
