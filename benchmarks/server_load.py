"""A policy server under load: latency, what batching gains, and whether memory grows.

Starts `vla serve` as a process of its own, on a nano policy of random weights unless a checkpoint is given, and asks it
from several connections at once, each sending its next request as soon as it has its answer. In the sustained phase one
more client behaves badly all along: it sends nonsense, cuts messages off and leaves without a word. Memory is what the
server's own /metrics says.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from data_mixtures.spaces.embodiments import METAWORLD_SAWYER
from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM
from data_mixtures.statistics.normalisation import Normalisation, Quantiles
from vla.models.pi05.config import Pi05Config
from vla.models.pi05.stage import ActionConfig, ActionStage
from vla.serve.messages import pack, unpack

FRAME = 224
MIB = 2**20
COLUMNS = ["clients", "and a bad one", "max batch", "requests", "errors", "requests/s"]
COLUMNS += ["p50 ms", "p90", "p99", "largest", "mean batch"]


@dataclass(frozen=True)
class Load:
    """One phase. Latencies in ms as the clients saw them; memory of the server process in MiB."""

    clients: int
    max_batch: int
    seconds: float
    requests: int
    errors: int
    per_second: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    largest_ms: float
    mean_batch: float
    beside_a_bad_client: bool
    rss_mib: list[float]

    @property
    def rss_growth(self) -> tuple[float, float]:
        """Mean memory of the second fifth and of the last fifth of the phase, MiB; the first fifth warms up."""
        fifth = max(1, len(self.rss_mib) // 5)
        return float(np.mean(self.rss_mib[fifth : 2 * fifth])), float(np.mean(self.rss_mib[-fifth:]))


def write_nano(folder: Path) -> Path:
    """A model folder of the nano student with random weights, for Meta-World's arm and two cameras."""

    def spans(size: int, dims: list[int]) -> Quantiles:
        high = torch.zeros(size)
        high[dims] = 0.02
        return Quantiles(tuple((-high).tolist()), tuple(high.tolist()))

    normalisation = Normalisation(state=spans(STATE_DIM, [0, 1, 2, 7]), action=spans(ACTION_DIM, [0, 1, 2, 6]))
    stage = ActionStage(
        ActionConfig(model=Pi05Config.nano()),
        normalisation,
        ["front", "wrist"],
        ["open the drawer", "press the button"],
        robot=METAWORLD_SAWYER,
        frame_size=64,
    )
    module = stage.build()
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
    folder.mkdir(parents=True, exist_ok=True)
    save_file(module.state_dict(), folder / "model.safetensors")
    stage.save_assets(folder)
    return folder


@contextmanager
def server(checkpoint: str, max_batch: int, device: str) -> Iterator[int]:
    """`vla serve` on a free port, which is given; stopped as an operator would stop it."""
    command = [sys.executable, "-m", "recipes.cli", "serve", checkpoint, "--port", "0", "--device", device]
    command += ["--max-batch", str(max_batch)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=dict(os.environ))
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("serving"):
                process.wait()
                log.seek(0)
                raise RuntimeError(f"the server did not start:\n{line}{log.read()}")
            yield int(line.partition("ws://")[2].partition(" ")[0].rpartition(":")[2])
            process.terminate()
            if process.wait(30) != 0:
                raise RuntimeError(f"the server left with {process.returncode}")
        finally:
            process.kill()
            process.stdout.close()


@contextmanager
def client_of(port: int) -> Iterator[tuple[ClientConnection, dict]]:
    """A connection and the server's metadata."""
    with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None, proxy=None) as client:
        hello = client.recv(30)
        assert isinstance(hello, bytes)
        yield client, unpack(hello)


def _message(metadata: dict, seed: int) -> bytes:
    draw = np.random.default_rng(seed)
    frames = {
        keys[0]: draw.integers(0, 256, (FRAME, FRAME, 3), np.uint8) for keys in metadata["keys"]["cameras"].values()
    }
    return pack({**frames, "state": np.zeros(metadata["state_dim"]), "prompt": "open the drawer", "seed": seed})


def _ask(port: int, seed: int, until: float, latencies: list[float], errors: list[str]) -> None:
    with client_of(port) as (client, metadata):
        message = _message(metadata, seed)
        while time.monotonic() < until:
            started = time.perf_counter()
            client.send(message)
            answer = client.recv(60)
            if isinstance(answer, str):
                errors.append(answer)
            else:
                latencies.append(time.perf_counter() - started)


def _misbehave(port: int, until: float) -> None:
    draw = np.random.default_rng(0)
    while time.monotonic() < until:
        with suppress(OSError, WebSocketException, TimeoutError), client_of(port) as (client, metadata):
            message = _message(metadata, 0)
            client.send(draw.bytes(200_000))
            client.recv(10)
            client.send(message[: len(message) // 2])
            client.recv(10)
            client.send(b"\x81\xa1a\xdc\x0f\xff" + (b"\xdc\x0f\xff" + b"\x90" * 4095) * 20)
            client.recv(10)
            client.send(message)
            client.socket.close()  # before the answer, without a goodbye
        time.sleep(0.05)


def read_metrics(port: int) -> dict[str, float]:
    """Every line of /metrics that is a number."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def measure(checkpoint: str, clients: int, max_batch: int, seconds: float, device: str, rude: bool) -> Load:
    """One phase on a fresh server."""
    latencies: list[float] = []
    errors: list[str] = []
    memory: list[float] = []
    with server(checkpoint, max_batch, device) as port:
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=_ask, args=(port, seed, until, latencies, errors)) for seed in range(clients)
        ]
        threads += [threading.Thread(target=_misbehave, args=(port, until))] * rude
        for thread in threads:
            thread.start()
        while time.monotonic() < until:
            time.sleep(min(1.0, max(0.0, until - time.monotonic())))
            memory.append(read_metrics(port)["process_resident_memory_bytes"] / MIB)
        for thread in threads:
            thread.join()
        metrics = read_metrics(port)
    ms = np.array(latencies) * 1e3
    return Load(
        clients=clients,
        max_batch=max_batch,
        seconds=seconds,
        requests=len(ms),
        errors=len(errors),
        per_second=len(ms) / seconds,
        p50_ms=float(np.percentile(ms, 50)),
        p90_ms=float(np.percentile(ms, 90)),
        p99_ms=float(np.percentile(ms, 99)),
        largest_ms=float(ms.max()),
        mean_batch=metrics["vla_batch_size_sum"] / metrics["vla_batch_size_count"],
        beside_a_bad_client=rude,
        rss_mib=memory,
    )


def cells(load: Load) -> list[str]:
    """A row under COLUMNS."""
    latencies = (load.p50_ms, load.p90_ms, load.p99_ms, load.largest_ms)
    return [
        str(load.clients),
        "yes" if load.beside_a_bad_client else "no",
        str(load.max_batch),
        str(load.requests),
        str(load.errors),
        f"{load.per_second:.1f}",
        *(f"{latency:.0f}" for latency in latencies),
        f"{load.mean_batch:.1f}",
    ]


def main() -> None:
    """Print one row a phase, as a Markdown table, and the server's memory over the sustained one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", help="a model folder (default: a nano policy of random weights)")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=40.0, help="of the sustained phase; the others last a quarter")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    options = parser.parse_args()
    short = max(5.0, options.seconds / 4)
    phases = [
        (1, options.clients, short, False),
        (options.clients, 1, short, False),
        (options.clients, options.clients, short, False),
        (options.clients, options.clients, options.seconds, True),
    ]
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    loads = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint or str(write_nano(Path(folder) / "nano"))
        for clients, max_batch, seconds, rude in phases:
            load = measure(checkpoint, clients, max_batch, seconds, options.device, rude)
            loads.append(load)
            print("| " + " | ".join(cells(load)) + " |", flush=True)
    early, late = loads[-1].rss_growth
    print(f"\nmemory of the sustained phase: {early:.1f} MiB in its second fifth, {late:.1f} MiB in its last")
    if options.out:
        options.out.write_text(json.dumps([asdict(load) for load in loads], indent=2) + "\n")


if __name__ == "__main__":
    main()
