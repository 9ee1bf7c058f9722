"""Rollouts of a server: ours, and others that speak openpi's protocol well or badly."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openpi_client import msgpack_numpy
from websockets.asyncio.server import ServerConnection, serve

from eval.engine.config import EngineConfig
from eval.engine.drivers import Ask, PolicyDriver
from eval.engine.engine import evaluate
from eval.engine.server_driver import TOKEN_VARIABLE, Keys, ServerDriver
from eval.results.row import EpisodeRow
from tests.eval.engine.fake_simulator import FakeSuite
from tests.eval.engine.test_batches import Noisy
from tests.vla.serve.live_server import conversing, serving
from vla.serve.observations import RequestReader, Sizes
from vla.serve.openpi import OpenpiConversation
from vla.serve.server import ServerConfig

CONFIG = EngineConfig(videos=0, timeout_s=20)
SUITE = FakeSuite(tasks=("lift",), inits=4)
SIZES = Sizes(cameras=("front",), state_dim=3, action_dim=2, horizon=6)


class Drawn(Noisy):
    """Minds no neighbours, so that a server may batch as it likes."""

    def act_many(self, observations: Any, seeds: Any, committed: Any = None) -> np.ndarray:
        self.calls.append([(o.instruction, float(o.state[1]), s) for o, s in zip(observations, seeds, strict=True)])
        return np.stack([np.random.default_rng(seed).uniform(0, 1, (6, 2)).astype(np.float32) for seed in seeds])


def outcome(rows: list[EpisodeRow]) -> list[tuple]:
    return [(row.case, row.steps, row.success_any, row.readings, row.calls) for row in rows]


def packed(message: Any) -> bytes:
    """As openpi's own code packs it."""
    raw = msgpack_numpy.packb(message)
    assert isinstance(raw, bytes)
    return raw


@contextmanager
def openpi_server(answer: Callable[[dict[str, Any]], Any], metadata: dict[str, Any] | None = None) -> Iterator[str]:
    """A server that packs with openpi's own code and answers what it is told to; its address."""
    ready, box = threading.Event(), []

    async def handle(connection: ServerConnection) -> None:
        await connection.send(packed(metadata or {}))
        async for message in connection:
            told = answer(msgpack_numpy.unpackb(message))
            await connection.send(told if isinstance(told, str | bytes) else packed(told))

    async def run() -> None:
        async with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
            stop = asyncio.Event()
            box.extend([server.sockets[0].getsockname()[1], stop, asyncio.get_running_loop()])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(10)
    try:
        yield f"ws://127.0.0.1:{box[0]}"
    finally:
        box[2].call_soon_threadsafe(box[1].set)
        thread.join(10)


def test_our_server_gives_the_rows_of_its_policy(tmp_path: Path) -> None:
    direct = evaluate(SUITE, PolicyDriver(Drawn(), "none"), CONFIG, tmp_path / "direct", "drawn")
    with serving(Drawn(), sizes=SIZES) as (_, port):
        driver = ServerDriver(f"ws://127.0.0.1:{port}")
        rows = evaluate(SUITE, driver, CONFIG, tmp_path / "served", "drawn")
    assert outcome(rows) == outcome(direct)
    assert len({str(row.readings) for row in rows}) == 4
    assert all(row.policy_seed == 0 and row.latency_p99_ms for row in rows)


def test_the_weights_a_server_names_are_in_every_row(tmp_path: Path) -> None:
    digest = "ab" * 32
    config = ServerConfig(port=0)
    conversation = OpenpiConversation(RequestReader(SIZES), config.max_message_bytes, digest)
    with conversing(Drawn(), conversation, config) as (_, port):
        rows = evaluate(SUITE, ServerDriver(f"ws://127.0.0.1:{port}"), CONFIG, tmp_path, "served")
    assert {row.checkpoint for row in rows} == {digest}
    with openpi_server(lambda _: {"actions": np.zeros((9, 2))}, {"weights_sha256": 7}) as address:
        assert ServerDriver(address).checkpoint == "none", "no digest, whatever it is"
        with pytest.raises(ValueError, match="checkpoint"):
            evaluate(SUITE, ServerDriver(address), CONFIG, tmp_path, "served")


def test_the_token_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Drawn(), ServerConfig(port=0, token="s" * 32), SIZES) as (_, port):
        with pytest.raises(RuntimeError, match=r"no server answers at .*401"):
            evaluate(SUITE, ServerDriver(f"ws://127.0.0.1:{port}"), CONFIG, tmp_path / "a", "drawn")
        monkeypatch.setenv(TOKEN_VARIABLE, "s" * 32)
        assert len(evaluate(SUITE, ServerDriver(f"ws://127.0.0.1:{port}"), CONFIG, tmp_path / "b", "drawn")) == 4


def test_another_server_under_its_own_keys(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        seen.append(request)
        return {"actions": np.full((10, 2), 0.5), "policy_timing": {"infer_ms": 1.0}}  # float64, as openpi's

    keys = Keys({"video.front_view": "front"}, state="state.all", prompt="annotation")
    with openpi_server(answer) as address:
        rows = evaluate(SUITE, ServerDriver(address, keys), CONFIG, tmp_path, "theirs")
    # Goals 2 to 5 at half a unit an action, and two actions more; the limit is 12.
    assert [row.steps for row in rows] == [6, 8, 10, 12]
    assert all(row.success_any and row.policy_seed is None and row.checkpoint == "none" for row in rows)
    assert seen[0].keys() == {"video.front_view", "state.all", "annotation"}
    assert seen[0]["video.front_view"].shape == (4, 6, 3)
    assert seen[0]["video.front_view"].dtype == np.uint8
    assert seen[0]["state.all"].tolist() == [0, 100, 0]
    assert seen[0]["annotation"] == "do lift"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"actions": np.zeros((3, 2))}, "execute: 4 actions .* chunks of 3; lower"),
        ({"actions": np.zeros((9, 7))}, r"shape \[9, 7\]; fake takes rows of 2"),
        ({"actions": np.zeros(2)}, r"shape \[2\]"),
        ({"actions": np.full((9, 2), np.inf)}, "not finite"),
        ({"actions": np.full((9, 2), 1e300)}, "not finite in float32"),
        ({"action": np.zeros((9, 2))}, r"answered \['action'\], without `actions`"),
        ("Traceback:\n  File x\nKeyError: 'observation/state'\n", "says: KeyError: 'observation/state'"),
        (b"\xc1", "does not speak openpi's protocol"),
        (packed([1, 2]), "does not speak openpi's protocol"),
    ],
)
def test_what_a_server_does_wrong_is_told_in_words(told: Any, message: str, tmp_path: Path) -> None:
    with openpi_server(lambda _: told) as address, pytest.raises(ValueError, match=message):
        evaluate(replace(SUITE, max_slots=1), ServerDriver(address), CONFIG, tmp_path, "theirs")


def test_a_server_is_asked_for_all_episodes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    together = threading.Barrier(8, timeout=20)

    def wait_for_all(self: ServerDriver, connection: Any, ask: Any) -> np.ndarray:
        together.wait()
        return np.full((4, 2), 0.5, np.float32)

    monkeypatch.setattr(ServerDriver, "_one", wait_for_all)
    suite = replace(SUITE, inits=8, max_slots=8)
    with openpi_server(lambda _: None) as address:
        driver = ServerDriver(address)
        driver.begin(suite)
        try:
            assert len(driver.plan([Ask(case, 0, 0, None) for case in suite.cases()])) == 8
        finally:
            driver.end()


def test_a_server_of_another_robot_is_refused(tmp_path: Path) -> None:
    with (
        openpi_server(lambda _: {}, {"action_dim": 7}) as address,
        pytest.raises(ValueError, match="has action_dim 7, fake 2"),
    ):
        evaluate(SUITE, ServerDriver(address), CONFIG, tmp_path, "theirs")


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no server answers at ws://127.0.0.1:9"):
        evaluate(SUITE, ServerDriver("ws://127.0.0.1:9"), CONFIG, tmp_path, "theirs")


def test_a_server_that_goes_away_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    asked = []

    def answer(request: dict[str, Any]) -> Any:
        asked.append(request)
        if len(asked) == 5:
            raise RuntimeError("it falls over")
        return {"actions": np.full((4, 2), 0.5)}

    suite = replace(SUITE, max_slots=1)
    with openpi_server(answer) as address, pytest.raises(RuntimeError, match="went away.*goes on where"):
        evaluate(suite, ServerDriver(address), CONFIG, tmp_path, "theirs")
    assert len((tmp_path / "episodes.jsonl").read_text().splitlines()) == 2
    with openpi_server(answer) as address:
        assert [row.steps for row in evaluate(suite, ServerDriver(address), CONFIG, tmp_path, "theirs")] == [
            6,
            8,
            10,
            12,
        ]
