"""The public evaluation harness's own client and orchestrator against our server, without docker."""

import asyncio
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import websockets.exceptions

from data_mixtures.spaces.embodiments import LIBERO_COMMANDS, METAWORLD_SAWYER, Embodiment
from data_mixtures.spaces.recorded_columns import RecordedColumns
from tests.vla.serve.live_server import conversing
from vla.policy import Committed, Observation
from vla.serve.observations import Keys, Sizes
from vla.serve.server import ServerConfig
from vla.serve.vla_eval import EpisodeRules, VlaEvalConversation

pytest.importorskip("vla_eval", reason="vla-eval: `make setup` installs it")
from vla_eval.connection import Connection
from vla_eval.orchestrator import Orchestrator
from vla_eval.protocol.messages import unpack_message

from tests.vla.serve.harness.libero import picture, state

ROOT = Path(__file__).parents[3]
FAKE = "tests.vla.serve.harness.libero:FakeLibero"
SIZES = Sizes(cameras=("image", "wrist_image"), state_dim=8, action_dim=7, horizon=8)


class Remembering:
    """Row r of a chunk is [seed's last digits, r, 0 ...]; all that was seen is kept."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.seen: list[tuple[Observation, int]] = []

    def act_many(
        self,
        observations: Sequence[Observation],
        seeds: Sequence[int],
        committed: Sequence[Committed | None] | None = None,
    ) -> np.ndarray:
        assert committed is None
        self.batches.append(len(observations))
        self.seen += zip(observations, seeds, strict=True)
        if any(o.instruction == "break" for o in observations):
            raise RuntimeError("secret of the inside")
        chunks = np.zeros((len(seeds), SIZES.horizon, SIZES.action_dim), np.float32)
        chunks[:, :, 0] = np.array([seed % 100_000 for seed in seeds])[:, None]
        chunks[:, :, 1] = np.arange(SIZES.horizon)
        return chunks


def talking(
    keys: Keys | None = None, rules: EpisodeRules | None = None, robot: Embodiment | None = LIBERO_COMMANDS
) -> VlaEvalConversation:
    facts = {"checkpoint": "mine"}
    return VlaEvalConversation(SIZES, keys or Keys(), rules or EpisodeRules(), robot, facts)


def config_of(port: int, log: Path, **entry: Any) -> dict[str, Any]:
    bench = {"benchmark": FAKE, "episodes_per_task": 2, "params": {"log": str(log)}, **entry}
    return {"server": {"url": f"ws://127.0.0.1:{port}"}, "output_dir": str(log.parent / "out"), "benchmarks": [bench]}


def episodes_in(log: Path) -> dict[tuple[int, int], dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    episodes = {(line["task"], line["episode"]): line for line in lines}
    assert len(episodes) == len(lines)
    return episodes


def check_actions(actor: Remembering, log: Path, execute: int = 5, steps: int = 12) -> None:
    """What each episode carried out is, in order, what the policy gave for what that episode showed."""
    seen = {o.images["image"].tobytes(): (o, seed) for o, seed in actor.seen}
    for (task, episode), line in episodes_in(log).items():
        assert len(line["actions"]) == steps
        for step, action in enumerate(line["actions"]):
            asked = step - step % execute
            observation, seed = seen[picture("agentview", task, episode, asked).tobytes()]
            assert action[:2] == [seed % 100_000, step % execute]
            np.testing.assert_array_equal(observation.images["wrist_image"], picture("wrist", task, episode, asked))
            np.testing.assert_array_equal(observation.state, state(task, episode, asked).astype(np.float32))
            assert observation.instruction == f"put away thing {task}"


def test_its_command_line_runs_a_benchmark(tmp_path: Path):
    actor, log = Remembering(), tmp_path / "log.jsonl"
    with conversing(actor, talking(), ServerConfig(port=0)) as (server, port):
        recipe = tmp_path / "fake.yaml"
        recipe.write_text(json.dumps(config_of(port, log)))
        command = [str(Path(sys.executable).parent / "vla-eval"), "run", "--no-docker", "-c", str(recipe)]
        done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        counted = server.metrics.text().decode()
    assert "FakeLibero: 50.0%" in done.stdout
    assert set(episodes_in(log)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert episodes_in(log)[0, 0]["sends"] == {"wrist": True, "state": True, "no_antipodal": True}
    check_actions(actor, log)
    assert len(actor.seen) == 4 * 3  # of 12 steps: at 0, 5 and 10
    assert 'vla_requests_total{outcome="answered"} 49.0' in counted.splitlines()  # 4 x 12, and a hello
    kept = "".join(path.read_text() for path in (tmp_path / "out").rglob("*.json"))
    assert '"checkpoint": "mine"' in kept
    assert '"execute": 5' in kept


def test_shards_in_parallel_share_forwards_and_mix_nothing_up(tmp_path: Path):
    actor, log = Remembering(), tmp_path / "log.jsonl"
    config = ServerConfig(port=0, wait_ms=200, max_batch=8)

    async def run(port: int) -> None:
        entry = config_of(port, log, episodes_per_task=8)
        shards = [Orchestrator(entry, shard_id=n, num_shards=8, no_save=True) for n in range(8)]
        await asyncio.gather(*(shard.run() for shard in shards))

    with conversing(actor, talking(), config) as (_, port):
        asyncio.run(run(port))
    assert len(episodes_in(log)) == 16
    check_actions(actor, log)
    assert max(actor.batches) > 2


def test_noise_follows_from_the_task_not_from_who_plays_it(tmp_path: Path):
    def seeds(name: str, seed: int, **entry: Any) -> dict[bytes, int]:
        actor, log = Remembering(), tmp_path / name
        with conversing(actor, talking(rules=EpisodeRules(seed=seed)), ServerConfig(port=0)) as (_, port):
            asyncio.run(Orchestrator(config_of(port, log, **entry), no_save=True).run())
        return {o.images["image"].tobytes(): seed for o, seed in actor.seen}

    once = seeds("once", 0)
    assert len(set(once.values())) == len(once) == 12
    assert seeds("again", 0) == once
    one_task = seeds("one", 0, tasks=["put away thing 1"])
    assert one_task == {key: once[key] for key in one_task}
    assert not set(seeds("other", 1).values()) & set(once.values())


def test_a_session_that_dies_midway_costs_the_others_nothing(tmp_path: Path):
    actor, log = Remembering(), tmp_path / "log.jsonl"

    async def play_and_die(port: int) -> None:
        client = Connection(f"ws://127.0.0.1:{port}", max_retries=1)
        await client.connect(benchmark=FAKE)
        await client.start_episode({"task": {"name": "dying"}})
        await client.act(observation())
        client._ws.transport.abort()

    async def run(port: int) -> list[Any]:
        plays = Orchestrator(config_of(port, log), no_save=True).run()
        return (await asyncio.gather(plays, *(play_and_die(port) for _ in range(5))))[0] or []

    with conversing(actor, talking(), ServerConfig(port=0)) as (server, port):
        (result,) = asyncio.run(run(port))
        assert (result["mean_success"], result.get("num_errors", 0)) == (0.5, 0)
        deadline = threading.Event()
        for _ in range(100):
            if "vla_clients 0.0" in server.metrics.text().decode().splitlines():
                break
            deadline.wait(0.05)
        assert "vla_clients 0.0" in server.metrics.text().decode().splitlines()
    check_actions(actor, log)


def test_a_failed_forward_fails_its_episode_and_the_next_goes_on(tmp_path: Path):
    actor = Remembering()

    async def run(port: int) -> None:
        async with Connection(f"ws://127.0.0.1:{port}") as client:
            await client.start_episode({"task": {"name": "a"}})
            with pytest.raises(RuntimeError, match="failed: the policy failed on this request") as raised:
                await client.act(observation(task_description="break"))
            assert "secret" not in str(raised.value)
            await client.end_episode({})
            await client.start_episode({"task": {"name": "b"}})
            assert (await client.act(observation()))["actions"].shape == (7,)

    with conversing(actor, talking(Keys(cameras=PLAIN)), ServerConfig(port=0)) as (_, port):
        asyncio.run(run(port))


JOINTS = Embodiment("joints", recorded=RecordedColumns())
PLAIN = {"agentview": "image", "wrist": "wrist_image"}


def observation(**changes: Any) -> dict[str, Any]:
    frame = np.zeros((8, 8, 3), np.uint8)
    sent = {"images": {"agentview": frame, "wrist": frame}, "states": np.zeros(8), "task_description": "go", **changes}
    return {key: value for key, value in sent.items() if value is not None}


def ask(conversation: VlaEvalConversation, *observations: dict[str, Any], start: Any = None) -> list[Any]:
    """The answers to observations of one episode; a refusal's words where it is one."""

    async def run(port: int) -> list[Any]:
        answers = []
        async with Connection(f"ws://127.0.0.1:{port}") as client:
            await client.start_episode({"task": {}} if start is None else start)
            for sent in observations:
                try:
                    answers.append((await client.act(sent))["actions"])
                except RuntimeError as error:
                    answers.append(str(error))
        return answers

    with conversing(Remembering(), conversation, ServerConfig(port=0)) as (_, port):
        return asyncio.run(run(port))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"images": {"front": np.zeros((8, 8, 3), np.uint8)}},
            "the images are ['front']; this policy reads 'agentview'",
        ),
        ({"images": None}, "'images' is None; it is a map"),
        ({"states": None}, "no state is there; one of ['states', 'state', 'joint_state'] is read"),
        ({"state": np.zeros(8)}, "['states', 'state'] are there"),
        ({"states": np.zeros(7)}, "the state has 7 numbers; this policy's robot has 8"),
        ({"states": np.full(8, np.nan)}, "not finite"),
        ({"states": "abc"}, "'states' holds 'abc'; send a row of numbers"),
        ({"task_description": None}, "'task_description' is missing"),
        ({"task_description": 5}, "'prompt' is 5"),
        ({"images": {"agentview": np.zeros((8, 8, 4), np.uint8), "wrist": np.zeros((8, 8, 3), np.uint8)}}, "RGBA"),
        ({"images": {"agentview": np.zeros((8, 8, 3)), "wrist": 3}}, "is a int; send an image"),
    ],
)
def test_an_observation_that_is_not_right_is_told(changes: dict[str, Any], words: str):
    refused, answered = ask(talking(Keys(cameras=PLAIN)), observation(**changes), observation())
    assert words in refused
    assert answered.shape == (7,)


def test_between_episodes_and_in_live_mode_nothing_is_played():
    (refused,) = ask(talking(Keys(cameras=PLAIN)), observation(), start={"mode": "live"})
    assert "this server plays `mode: sync`, not 'live'" in refused

    async def run(port: int) -> None:
        async with Connection(f"ws://127.0.0.1:{port}") as client:
            with pytest.raises(RuntimeError, match="episode_start comes first"):
                await client.act(observation())
            await client.start_episode({"task": {}})
            assert [(await client.act(observation()))["actions"][1] for _ in range(3)] == [0, 1, 2]
            await client.end_episode({})
            await client.start_episode({"task": {}})
            assert (await client.act(observation()))["actions"][1] == 0  # the chunk under way was dropped

    with conversing(Remembering(), talking(Keys(cameras=PLAIN)), ServerConfig(port=0)) as (_, port):
        asyncio.run(run(port))


def test_strangers_cost_the_others_nothing():
    async def run(port: int) -> list[Any]:
        heard = []
        async with (
            Connection(f"ws://127.0.0.1:{port}") as client,
            websockets.connect(f"ws://127.0.0.1:{port}") as other,
        ):
            await client.start_episode({"task": {}})
            for frame in (b"", b"\xff" * 99, "text", pack("hello", 3)):
                await other.send(frame)
                heard.append(unpack_message(await other.recv(decode=False)).payload["error"])
                assert (await client.act(observation()))["actions"].shape == (7,)
            # A task that no benchmark has: nothing answers it, the first observation is told.
            await other.send(pack("episode_start", {"task": {b"a": 1, "b": 2}}))
            await other.send(pack("observation", {}))
            heard.append(unpack_message(await other.recv(decode=False)).payload["error"])
            await other.send(pack("hello", {"protocol_version": 2}))
            with pytest.raises(websockets.exceptions.ConnectionClosed, match="speaks vla-eval's protocol 1, not 2"):
                await other.recv()
        return heard

    def pack(kind: str, payload: object) -> bytes:
        packed = msgpack.packb({"type": kind, "payload": payload, "seq": 1})
        assert packed is not None
        return packed

    with conversing(Remembering(), talking(Keys(cameras=PLAIN)), ServerConfig(port=0)) as (_, port):
        heard = asyncio.run(run(port))
    for words, error in zip(["msgpack", "msgpack", "a text frame", "payload is 3", "the task is"], heard, strict=True):
        assert words in error


def test_a_restart_within_an_episode_asks_again():
    answers = ask(
        talking(Keys(cameras=PLAIN), EpisodeRules(execute=4)),
        *[observation()] * 2,
        observation(episode_restart=True),
        observation(),
    )
    assert [answer[1] for answer in answers] == [0, 1, 0, 1]
    assert answers[2][0] != answers[0][0]


def test_a_whole_chunk_where_the_benchmark_is_not_known():
    answers = ask(talking(Keys(cameras=PLAIN)), *[observation()] * 10)
    assert [answer[1] for answer in answers] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]


def test_a_state_in_parts_and_a_step_without_pictures():
    keys = Keys(cameras=PLAIN, state=["arm/joints", "grip"])
    first = observation(states=None, arm={"joints": np.arange(7)}, grip=0.5)
    actor = Remembering()

    async def run(port: int) -> None:
        async with Connection(f"ws://127.0.0.1:{port}") as client:
            await client.start_episode({"task": {}})
            await client.act(first)
            assert (await client.act({"task_description": "go"}))["actions"][1] == 1  # from the chunk: not looked at

    with conversing(actor, talking(keys), ServerConfig(port=0)) as (_, port):
        asyncio.run(run(port))
    np.testing.assert_array_equal(actor.seen[0][0].state, np.array([0, 1, 2, 3, 4, 5, 6, 0.5], np.float32))


def hang_up(
    sizes: Sizes,
    robot: Embodiment | None = LIBERO_COMMANDS,
    keys: Keys | None = None,
    plays: str = "libero",
    benchmark: str | None = None,
) -> str:
    """The reason the harness is given when it says what it plays; "" where it may."""
    conversation = VlaEvalConversation(sizes, keys or Keys(), EpisodeRules(benchmark=benchmark), robot)

    async def run(port: int) -> str:
        client = Connection(f"ws://127.0.0.1:{port}")
        try:
            await client.connect(benchmark=f"vla_eval.benchmarks.{plays}.benchmark:Class")
        except websockets.exceptions.ConnectionClosed as error:
            return f"{error.rcvd.code} {error.rcvd.reason}" if error.rcvd else str(error)
        await client.close()
        return ""

    with conversing(Remembering(), conversation, ServerConfig(port=0)) as (_, port):
        return asyncio.run(run(port))


def test_a_policy_that_cannot_play_is_told_before_an_episode():
    assert hang_up(SIZES) == ""
    assert hang_up(Sizes(("image",), 8, 7, 8)) == ""
    assert "1008 LIBERO has the cameras agentview, wrist: --cameras KEY=base" in hang_up(Sizes(("base",), 8, 7, 8))
    assert hang_up(Sizes(("base",), 8, 7, 8), keys=Keys({"agentview": "base"})) == ""
    assert hang_up(Sizes(("image", "base"), 8, 7, 8), keys=Keys(optional=["base"])) == ""
    assert "LIBERO has a state of 8 numbers, this policy 7: see --robot" in hang_up(Sizes(("image",), 7, 7, 8))
    assert "LIBERO has an action of 7 numbers, this policy 4" in hang_up(Sizes(("image",), 8, 4, 8), JOINTS)
    assert "LIBERO's state is in other columns than 'metaworld_sawyer''s: see --robot" in hang_up(
        SIZES, METAWORLD_SAWYER
    )


def test_a_class_of_several_robots_is_not_guessed():
    widowx = Sizes(("image",), 7, 7, 8)
    assert "simpler has several robots: start the server with --benchmark simpler-widowx or simpler-google" in hang_up(
        widowx, JOINTS, plays="simpler"
    )
    assert hang_up(widowx, JOINTS, plays="simpler", benchmark="simpler-widowx") == ""
    assert "has a state of 8 numbers" in hang_up(widowx, JOINTS, plays="simpler", benchmark="simpler-google")
    started = "this server was started with --benchmark simpler-widowx, the client plays libero"
    assert started in hang_up(widowx, JOINTS, benchmark="simpler-widowx")
    with pytest.raises(ValueError, match="benchmark is 'simpler'; those known are libero, "):
        EpisodeRules(benchmark="simpler")


def test_rules_that_no_episode_could_follow():
    with pytest.raises(ValueError, match="execute is 0; it must be at least 1"):
        EpisodeRules(execute=0)
    with pytest.raises(ValueError, match="execute is 9, but a chunk of this policy has 8 actions"):
        talking(rules=EpisodeRules(execute=9))
    with pytest.raises(ValueError, match="seed is -1"):
        EpisodeRules(seed=-1)


def test_a_token_in_the_address_and_the_harnesss_path_of_health():
    with conversing(Remembering(), talking(), ServerConfig(port=0, token="s3cret")) as (_, port):

        async def run() -> None:
            async with Connection(f"ws://vla:s3cret@127.0.0.1:{port}", max_retries=1):
                pass
            for address in (f"ws://127.0.0.1:{port}", f"ws://vla:other@127.0.0.1:{port}"):
                with pytest.raises(ConnectionError):
                    await Connection(address, max_retries=1).connect()

        asyncio.run(run())
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            assert response.status == 200
