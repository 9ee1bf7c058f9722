"""A real policy behind the server: the numbers `Policy` gives, alone, in company, and on from a committed chunk."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.vla.serve.live_server import serving
from tests.vla.serve.nano_policy import write_nano_policy
from vla.policy import Committed, Observation, Policy
from vla.serve.observations import Sizes
from vla.serve.server import ServerConfig

openpi = pytest.importorskip("openpi_client.websocket_client_policy", reason="openpi-client: `make setup` installs it")
pytestmark = pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")
CLIENTS = 4


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return Policy.from_pretrained(write_nano_policy(tmp_path_factory.mktemp("nano")))


def sizes_of(policy: Policy) -> Sizes:
    return Sizes(policy.cameras, policy.state_dim, policy.action_dim, policy.horizon)


@pytest.fixture(scope="module")
def clients(policy: Policy) -> Iterator[list[Any]]:
    config = ServerConfig(port=0, max_batch=CLIENTS, wait_ms=20_000)
    with serving(policy, config, sizes_of(policy)) as (_, port):
        clients = [openpi.WebsocketClientPolicy("127.0.0.1", port) for _ in range(CLIENTS)]
        yield clients
        for client in clients:
            client._ws.close()


def observation(index: int, policy: Policy) -> Observation:
    """Frames, sizes of frames and words that differ from one index to the next."""
    draw = np.random.default_rng(index)
    frames = {name: draw.integers(0, 256, (20 + index, 24, 3), np.uint8) for name in policy.cameras}
    state = draw.uniform(-0.3, 0.3, policy.state_dim).astype(np.float32)
    return Observation(frames, state, "open the drawer" + " wide" * index)


def message(observation: Observation, **options: object) -> dict[str, object]:
    images = {f"observation/{name}": frame for name, frame in observation.images.items()}
    return {**images, "observation/state": observation.state, "prompt": observation.instruction, **options}


def ask(clients: list[Any], messages: list[dict[str, object]]) -> list[dict[str, Any]]:
    """All at once, one client each."""
    with ThreadPoolExecutor(len(messages)) as pool:
        return list(pool.map(lambda client, message: client.infer(message), clients, messages))


def test_answers_in_company_are_those_alone(policy: Policy, clients: list[Any]):
    seen = [observation(i, policy) for i in range(CLIENTS)]
    answers = ask(clients, [message(one, seed=10 + i) for i, one in enumerate(seen)])
    assert [answer["server_timing"]["batch_size"] for answer in answers] == [CLIENTS] * CLIENTS
    for i, answer in enumerate(answers):
        alone = policy.act(seen[i], seed=10 + i)
        assert answer["actions"].shape == (policy.horizon, policy.action_dim)
        np.testing.assert_allclose(answer["actions"], alone, atol=1e-6)
    spread = np.ptp(np.stack([answer["actions"] for answer in answers]), axis=0).max()
    assert spread > 1e-3  # the comparison above could fail


def test_a_chunk_goes_on_from_a_committed_one(policy: Policy, clients: list[Any]):
    """Some clients of a batch continue an earlier chunk, others begin anew."""
    passed, frozen = 2, 3
    seen = [observation(i, policy) for i in range(CLIENTS)]
    first = [answer["actions"] for answer in ask(clients, [message(o, seed=i) for i, o in enumerate(seen)])]
    anew = [answer["actions"] for answer in ask(clients, [message(o, seed=90 + i) for i, o in enumerate(seen)])]
    messages = [message(o, seed=90 + i) for i, o in enumerate(seen)]
    for i in (0, 2):
        messages[i] |= {"committed": first[i][passed:], "frozen": frozen}
    answers = [answer["actions"] for answer in ask(clients, messages)]
    for i in (1, 3):
        np.testing.assert_allclose(answers[i], anew[i], atol=1e-6)
    for i in (0, 2):
        earlier = first[i][passed:]
        np.testing.assert_allclose(answers[i][:frozen], earlier[:frozen], atol=1e-6)
        seam, seam_anew = (np.abs(chunk[frozen] - earlier[frozen]).mean() for chunk in (answers[i], anew[i]))
        assert seam < 0.6 * seam_anew
        assert seam_anew > 1e-4


def test_real_time_chunking_in_bfloat16(tmp_path_factory: pytest.TempPathFactory):
    folder = write_nano_policy(tmp_path_factory.mktemp("bfloat16"))
    half, whole = Policy.from_pretrained(folder, dtype="bfloat16"), Policy.from_pretrained(folder)
    seen = observation(0, whole)
    committed = Committed(whole.act(seen, seed=1), 3)
    expected, got = (policy.act(seen, seed=2, committed=committed) for policy in (whole, half))
    np.testing.assert_allclose(got[:3], committed.actions[:3], atol=1e-6)
    np.testing.assert_allclose(got, expected, atol=0.1 * np.abs(expected).max())
