"""`vla serve` as a user starts and stops it, and what it says when it cannot start."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipes.cli import main
from recipes.loading import RecipeError
from recipes.serve_command import TOKEN_VARIABLE, camera_table, read_token
from tests.vla.serve.nano_policy import write_nano_policy
from vla.policy import Observation, Policy
from vla.serve.vla_eval import noise_seed
from vla.train.export import weights_digest

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
        assert client.get_server_metadata()["weights_sha256"] == weights_digest(folder)
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


def test_a_benchmark_of_the_public_harness_asks(folder: Path):
    connection = pytest.importorskip("vla_eval.connection", reason="vla-eval: `make setup` installs it")
    command = [sys.executable, "-m", "recipes.cli", "serve", str(folder), "--port", "0", "--protocol", "vla-eval"]
    command += ["--cameras", "corner=front", "hand=wrist", "--execute", "3", "--seed", "5"]
    frames = {"corner": np.full((32, 32, 3), 40, np.uint8), "hand": np.full((32, 32, 3), 200, np.uint8)}
    task = {"name": "reach", "episode_idx": 2}

    async def play(port: int, state: np.ndarray) -> tuple[dict[str, Any], list[np.ndarray]]:
        async with connection.Connection(f"ws://127.0.0.1:{port}") as client:
            await client.start_episode({"task": task})
            sent = {"images": frames, "state": state, "task_description": "open the drawer"}
            return client.server_info, [(await client.act(sent))["actions"] for _ in range(4)]

    policy = Policy.from_pretrained(folder)
    state = np.linspace(0.1, 0.4, policy.state_dim)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}) as it:
        assert it.stdout is not None
        found = re.match(r"serving on ws://127\.0\.0\.1:(\d+)", it.stdout.readline())
        assert found
        info, actions = asyncio.run(play(int(found[1]), state))
        it.send_signal(signal.SIGTERM)
        assert it.communicate(timeout=30)[0] == "stopped\n"
    assert info["vla"]["cameras"] == {"front": "corner", "wrist": "hand"}
    assert (info["vla"]["execute"], info["vla"]["seed"], info["vla"]["checkpoint"]) == (3, 5, str(folder))
    observation = Observation(
        {"front": frames["corner"], "wrist": frames["hand"]}, state.astype(np.float32), "open the drawer"
    )
    first, second = (policy.act(observation, noise_seed(5, call, json.dumps(task, sort_keys=True))) for call in (0, 1))
    np.testing.assert_allclose(actions, [*first[:3], second[0]], atol=1e-5)
    assert np.abs(first[0] - second[0]).max() > 1e-3


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
        (["--seed", "3"], "--seed is of --protocol vla-eval"),
        (["--protocol", "vla-eval", "--ignore", "depth"], "--ignore is of --protocol openpi"),
        (["--protocol", "vla-eval", "--execute", "9"], "execute is 9, but a chunk of this policy has 8 actions"),
        (["--protocol", "vla-eval", "--benchmark", "simpler"], "those known are libero,"),
        (["--protocol", "vla-eval", "--max-clients", "65"], "--max-queue 64 is below --max-clients 65"),
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
