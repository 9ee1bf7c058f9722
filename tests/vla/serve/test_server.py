"""A live server, asked by openpi's published client over a real socket."""

import asyncio
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import websockets.exceptions
from websockets.sync.client import connect

from tests.vla.serve.live_server import SIZES, Foreseen, request, serving
from vla.serve.messages import pack, unpack
from vla.serve.observations import Keys, RequestReader
from vla.serve.openpi import OpenpiConversation
from vla.serve.server import PolicyServer, ServerConfig

openpi = pytest.importorskip("openpi_client.websocket_client_policy", reason="openpi-client: `make setup` installs it")
# openpi's client connects in a way that later websockets deprecate.
pytestmark = pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")
Live = tuple[Foreseen, PolicyServer, int]
_opened: list[Any] = []


@pytest.fixture(autouse=True)
def close_clients() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop()._ws.close()


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    actor = Foreseen()
    with serving(actor) as (server, port):
        yield actor, server, port


def client_of(port: int, api_key: str | None = None) -> Any:
    client = openpi.WebsocketClientPolicy("127.0.0.1", port, api_key)
    _opened.append(client)
    return client


def fetch(port: int, path: str, token: str | None = None) -> tuple[int, str]:
    headers = {"Authorization": f"Api-Key {token}"} if token else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=5
        ) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_openpis_client_acts(live: Live):
    client = client_of(live[2])
    metadata = client.get_server_metadata()
    assert (metadata["horizon"], metadata["action_dim"]) == (5, 2)
    assert metadata["keys"]["cameras"]["base"] == ["base", "observation/base", "images/base", "observation.images.base"]
    answer = client.infer(request())
    assert answer["actions"].dtype == np.float32
    np.testing.assert_array_equal(answer["actions"], np.tile(np.array([7, 3 + 72]), (5, 1)))
    assert answer["server_timing"]["infer_ms"] >= 0
    assert answer["server_timing"]["batch_size"] == 1
    assert "prev_total_ms" not in answer["server_timing"]
    assert client.infer(request())["server_timing"]["prev_total_ms"] > 0


def test_noise_differs_unless_a_seed_is_given(live: Live):
    client = client_of(live[2])
    seeds = {client.infer(request(seed=None))["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_a_wrong_request_is_told_and_the_connection_stays(live: Live):
    client = client_of(live[2])
    with pytest.raises(RuntimeError, match=r"bad request: unknown keys \['observation/image'\]; this server reads"):
        client.infer(request(**{"observation/image": np.zeros((4, 6, 3), np.uint8)}))
    with pytest.raises(RuntimeError, match="bad request: images: this policy will not"):
        client.infer(request(prompt="refuse"))
    assert client.infer(request())["actions"].shape == (5, 2)


def test_a_failure_inside_says_nothing_of_the_inside(live: Live, caplog: pytest.LogCaptureFixture):
    client = client_of(live[2])
    with pytest.raises(RuntimeError, match="failed: the policy failed") as raised:
        client.infer(request(prompt="break"))
    assert "secret" not in str(raised.value)
    assert "secret of the inside" in caplog.text
    with pytest.raises(RuntimeError, match="not finite"):
        client.infer(request(prompt="nan"))
    assert client.infer(request())["actions"].shape == (5, 2)


def test_health_follows_failures(live: Live):
    client = client_of(live[2])
    assert fetch(live[2], "/healthz") == (200, "OK\n")
    for _ in range(3):
        with pytest.raises(RuntimeError, match="failed"):
            client.infer(request(prompt="break"))
    assert fetch(live[2], "/healthz") == (503, "the last 3 forwards failed\n")
    client.infer(request())
    assert fetch(live[2], "/healthz")[0] == 200


def test_real_time_chunking_reaches_the_policy(live: Live):
    earlier = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    actions = client_of(live[2]).infer(request(committed=earlier, frozen=2))["actions"]
    np.testing.assert_array_equal(actions[:2], earlier[:2])
    assert actions[2, 0] == 7


def test_many_clients_share_a_forward():
    actor = Foreseen()
    with serving(actor, ServerConfig(port=0, wait_ms=20_000, max_batch=4)) as (_, port), ThreadPoolExecutor(4) as pool:
        clients = [client_of(port) for _ in range(4)]
        answers = list(pool.map(lambda i: clients[i].infer(request(seed=i)), range(4)))
    assert actor.batches == [4]
    assert [answer["actions"][0, 0] for answer in answers] == [0, 1, 2, 3]
    assert all(answer["server_timing"]["batch_size"] == 4 for answer in answers)


def test_one_client_does_not_wait_for_others():
    with serving(Foreseen(), ServerConfig(port=0, wait_ms=5_000)) as (_, port):
        client = client_of(port)
        started = time.perf_counter()
        client.infer(request())
        assert time.perf_counter() - started < 2


def test_one_wrong_request_of_a_batch_is_refused_alone():
    actor = Foreseen()
    with serving(actor, ServerConfig(port=0, wait_ms=20_000, max_batch=3)) as (_, port), ThreadPoolExecutor(3) as pool:
        clients = [client_of(port) for _ in range(3)]
        prompts = ["open", "refuse", "close"]
        waiting = [pool.submit(clients[i].infer, request(prompt=prompts[i], seed=i)) for i in range(3)]
        assert [waiting[i].result()["actions"][0, 0] for i in (0, 2)] == [0, 2]
        with pytest.raises(RuntimeError, match="this policy will not"):
            waiting[1].result()
    assert actor.batches == [3, 1, 1, 1]


def test_a_full_queue_is_told():
    actor = Foreseen()
    actor.gate.clear()
    with (
        serving(actor, ServerConfig(port=0, max_batch=1, max_queue=1)) as (server, port),
        ThreadPoolExecutor(2) as pool,
    ):
        clients = [client_of(port) for _ in range(3)]
        first = pool.submit(clients[0].infer, request(seed=0))
        assert actor.entered.wait(5)
        second = pool.submit(clients[1].infer, request(seed=1))
        while "vla_queue_length 1.0" not in server.metrics.text().decode():
            time.sleep(0.01)
        with pytest.raises(RuntimeError, match="busy: 1 requests are waiting already"):
            clients[2].infer(request())
        actor.gate.set()
        assert [one.result()["seed"] for one in (first, second)] == [0, 1]


def test_too_many_clients_are_told():
    with serving(Foreseen(), ServerConfig(port=0, max_clients=1)) as (_, port):
        first = client_of(port)
        with pytest.raises(websockets.exceptions.ConnectionClosedError, match="1 clients are connected"):
            client_of(port)
        assert first.infer(request())["seed"] == 7


def test_what_is_under_way_is_answered_before_the_server_stops():
    actor = Foreseen()
    actor.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        with serving(actor) as (_, port):
            client = client_of(port)
            other = client_of(port)
            waiting = pool.submit(client.infer, request())
            assert actor.entered.wait(5)
            threading.Timer(0.3, actor.gate.set).start()
        assert waiting.result()["seed"] == 7
        with pytest.raises(websockets.exceptions.ConnectionClosed, match="shutting down"):
            other.infer(request())
        with pytest.raises(OSError):  # noqa: PT011  connection refused, in the words of the system
            connect(f"ws://127.0.0.1:{port}", proxy=None)


def test_a_server_stops_though_a_forward_does_not_end():
    actor = Foreseen()
    actor.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        with serving(actor, ServerConfig(port=0, grace_s=0.2)) as (_, port):
            waiting = pool.submit(client_of(port).infer, request())
            assert actor.entered.wait(5)
        with pytest.raises((RuntimeError, websockets.exceptions.ConnectionClosed)):
            waiting.result()
        actor.gate.set()


def test_warming_up_finds_a_broken_policy():
    actor, reader, config = Foreseen(), RequestReader(SIZES), ServerConfig(port=0)

    async def warm_up(reader: RequestReader) -> None:
        await PolicyServer(actor, OpenpiConversation(reader, 2**20), config).warm_up([1, 3])

    asyncio.run(warm_up(reader))
    assert actor.batches == [1, 3]
    with pytest.raises(ValueError, match=r"actions \[1, 5, 2\] that are not all finite"):
        asyncio.run(warm_up(RequestReader(SIZES, Keys(prompt="nan"))))


def test_metrics_count():
    with serving(Foreseen()) as (_, port):
        client = client_of(port)
        client.infer(request())
        for prompt in ("refuse", "break"):
            with pytest.raises(RuntimeError):
                client.infer(request(prompt=prompt))
        status, text = fetch(port, "/metrics")
        assert status == 200
        lines = set(text.splitlines())
        assert {
            'vla_requests_total{outcome="answered"} 1.0',
            'vla_requests_total{outcome="refused"} 1.0',
            'vla_requests_total{outcome="failed"} 1.0',
            'vla_requests_total{outcome="busy"} 0.0',
            "vla_request_seconds_count 3.0",
            "vla_batch_size_sum 3.0",
            "vla_queue_length 0.0",
            "vla_clients 1.0",
        } <= lines


def test_the_token(caplog: pytest.LogCaptureFixture):
    secret = "a-token-nobody-guesses"
    with caplog.at_level(logging.DEBUG), serving(Foreseen(), ServerConfig(port=0, token=secret)) as (server, port):
        assert client_of(port, secret).infer(request())["seed"] == 7
        for wrong in (None, "a-token", secret + "x", "ö"):
            with pytest.raises((websockets.exceptions.InvalidStatus, UnicodeEncodeError)) as raised:
                client_of(port, wrong)
            assert wrong == "ö" or "401" in str(raised.value)
        assert fetch(port, "/healthz") == (200, "OK\n")
        assert fetch(port, "/metrics")[0] == 401
        assert fetch(port, "/metrics", secret)[0] == 200
        assert secret not in repr(server.config)
    words = [record.getMessage() for record in caplog.records if record.name != "websockets.client"]
    assert any("connected" in line for line in words)
    assert not any(secret in line for line in words)


def test_no_web_page_gets_in(live: Live):
    with pytest.raises(websockets.exceptions.InvalidStatus, match="403"):
        connect(f"ws://127.0.0.1:{live[2]}", origin="http://example.org", proxy=None)  # pyright: ignore


def test_a_message_over_the_limit_closes_its_connection_only():
    with serving(Foreseen(), ServerConfig(port=0, max_message_bytes=2_000)) as (_, port):
        client, other = client_of(port), client_of(port)
        with pytest.raises(websockets.exceptions.ConnectionClosedError, match="1009.*exceeds limit of 2000 bytes"):
            client.infer(request(**{"observation/base": np.zeros((64, 64, 3), np.uint8)}))
        assert other.infer(request())["seed"] == 7


def test_a_message_in_fragments_has_seconds():
    with (
        serving(Foreseen(), ServerConfig(port=0, message_timeout_s=1.0)) as (_, port),
        connect(f"ws://127.0.0.1:{port}", proxy=None) as client,
    ):
        client.recv()
        whole = pack(request())
        client.send([whole[:100], whole[100:]])
        answer = client.recv()
        assert isinstance(answer, bytes)
        assert unpack(answer)["seed"] == 7

        def dripping() -> Iterator[bytes]:
            for byte in range(50):
                time.sleep(0.05)
                yield whole[byte : byte + 1]

        with pytest.raises(websockets.exceptions.ConnectionClosed, match="1008.*too slow"):
            client.send(dripping())


def test_a_droid_client(live: Live):
    keys = Keys(
        cameras={"observation/exterior_image_1_left": "base", "observation/wrist_image_left": "wrist"},
        state=["observation/joint_position", "observation/gripper_position"],
    )
    actor = Foreseen()
    with serving(actor, keys=keys) as (_, port):
        client_of(port).infer(
            {
                "observation/exterior_image_1_left": np.full((8, 8, 3), 9, np.uint8),
                "observation/wrist_image_left": np.zeros((8, 8, 3), np.uint8),
                "observation/joint_position": np.array([0.5, 0.25]),
                "observation/gripper_position": np.array([1.0]),
                "prompt": "do something",
            }
        )
    assert actor.seen[0].images["base"].max() == 9
    np.testing.assert_array_equal(actor.seen[0].state, np.array([0.5, 0.25, 1.0]))
    assert SIZES.state_dim == 3
