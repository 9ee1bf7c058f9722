"""How long a chunk of actions takes: ours and other projects' public code on the same weights and inputs.

All contestants take turns (A B C A B C ...) on the same threads, so what else the machine does meets them alike, and
a peer whose actions are not ours is not timed: it computes something else.
"""

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.latency_cases import Case, case_inputs
from eval.latency_floor import Limits, device_limits, work
from eval.latency_peers import Peer, PeerError, PeerOptions
from vla.models.pi05.config import Pi05Config
from vla.models.pi05.convert import WeightFile
from vla.models.pi05.graphs import capture
from vla.models.pi05.inference import Sampler
from vla.models.pi05.load import load_published
from vla.models.pi05.model import Pi05, Prefix

# Relative above 1. Peers differ in float32 by the order of sums, and openpi by its clock (6e-5); in bfloat16 by what
# each rounds when, carried through ten steps.
TOLERANCE = {"float32": 2e-4, "bfloat16": 1e-1}


@dataclass(frozen=True)
class Settings:
    """Of one run of the benchmark; `compiled` holds for every contestant, graphs on CUDA are ours alone."""

    device: str = "cpu"
    dtype: str = "float32"
    compiled: bool = False
    threads: int = 1
    rounds: int = 10
    peers: tuple[str, ...] = ("lerobot", "openpi")


@dataclass
class Timing:
    """One contestant in one case: seconds of each round, and how far its actions are from ours."""

    name: str
    seconds: list[float] = field(default_factory=list)
    difference: float = 0.0
    skipped: str | None = None

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def p90(self) -> float:
        """Seconds."""
        return float(np.quantile(self.seconds, 0.9))


@dataclass
class CaseResult:
    """Timings of a case, ours first; our parts' seconds and their floors."""

    case: Case
    timings: list[Timing]
    parts: dict[str, float]
    floor: dict[str, float]


@dataclass
class Report:
    """All of a run."""

    config: Pi05Config
    settings: Settings
    hardware: str
    limits: Limits
    results: list[CaseResult]

    def json(self) -> dict[str, Any]:
        """As plain values."""
        return {"torch": torch.__version__, **asdict(self)}


def measure(
    weights: Path,
    config: Pi05Config,
    cases: Iterable[Case],
    settings: Settings,
    folder: Path,
    say: Callable[[str], None],
) -> Report:
    """Run all cases.

    Args:
        weights: A file or folder of the whole model.
        config: Of the weights.
        cases: To run, in order.
        settings: Of the run.
        folder: For inputs and outputs that peers read and write.
        say: Gets a line whenever something begins.
    """
    torch.set_num_threads(settings.threads)
    device, dtype = torch.device(settings.device), getattr(torch, settings.dtype)
    with torch.device("meta"):
        model = Pi05(config)
    load_published(model, WeightFile(weights), device)
    sampler = Sampler(model.eval(), dtype, settings.compiled, graphs=device.type == "cuda")
    limits = device_limits(device, dtype)
    with _peers(weights, config, settings, folder, say) as (peers, absent):
        results = []
        for case in cases:
            say(case.words(config))
            results.append(_case(case, config, settings, sampler, peers, folder))
            results[-1].timings += absent
            needed = work(config, case.cameras, case.text_tokens, case.batch, dtype.itemsize)
            results[-1].floor = {part: needed[part].seconds(limits) for part in needed}
    return Report(config, settings, hardware(device), limits, results)


def hardware(device: torch.device) -> str:
    """The processor's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


@contextmanager
def _peers(
    weights: Path, config: Pi05Config, settings: Settings, folder: Path, say: Callable[[str], None]
) -> Iterator[tuple[list[Peer], list[Timing]]]:
    """Peers that run, and a line for each that does not."""
    options = PeerOptions(
        weights.resolve(), config.horizon, config.vision.num_heads, config.vlm.head_dim,
        settings.dtype, settings.device, settings.threads, settings.compiled,
    )  # fmt: skip
    running: list[Peer] = []
    absent: list[Timing] = []
    try:
        for name in settings.peers:
            say(f"starting {name}")
            try:
                running.append(Peer(name, options, folder / f"{name}.log"))
            except PeerError as error:
                absent.append(Timing(name, skipped=str(error)))
        yield running, absent
    finally:
        for peer in running:
            peer.close()


def _case(
    case: Case, config: Pi05Config, settings: Settings, sampler: Sampler, peers: list[Peer], folder: Path
) -> CaseResult:
    inputs, path = case_inputs(config, case), folder / "case.npz"
    np.savez(path, **{name: value.numpy() for name, value in inputs.items()})  # pyright: ignore[reportArgumentType]
    device = torch.device(settings.device)
    on = {name: value.to(device) for name, value in inputs.items()}
    prefix = Prefix(on["images"].transpose(0, 1), on["img_masks"].T, on["tokens"], on["masks"])
    noise = on["sample_noise"]
    actions = sampler(prefix, noise).cpu()
    contestants: list[tuple[Timing, Callable[[], float]]] = [
        (Timing("ours"), lambda: seconds(lambda: sampler(prefix, noise), device))
    ]
    timings = [contestants[0][0]]
    for peer in peers:
        timing = Timing(peer.name)
        timings.append(timing)
        try:
            theirs = torch.from_numpy(peer.case(path, folder / f"{peer.name}.npy"))
        except PeerError as error:
            timing.skipped = str(error)
            continue
        timing.difference = ((theirs - actions).abs() / actions.abs().clamp(min=1)).max().item()
        if not timing.difference <= TOLERANCE[settings.dtype]:
            timing.skipped = f"computes something else: its actions differ from ours by {timing.difference:.1e}"
            continue
        contestants.append((timing, peer.run))
    take_turns(contestants, settings.rounds)
    return CaseResult(case, timings, part_seconds(sampler, prefix, noise, settings.rounds), {})


def take_turns(contestants: list[tuple[Timing, Callable[[], float]]], rounds: int, warm_up: int = 2) -> None:
    """Run all in turn, `rounds` times over, after rounds that do not count."""
    for number in range(warm_up + rounds):
        for timing, run in contestants:
            taken = run()
            if number >= warm_up:
                timing.seconds.append(taken)


def seconds(function: Callable[[], Any], device: torch.device) -> float:
    """Of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


@torch.no_grad()
def part_seconds(sampler: Sampler, prefix: Prefix, noise: Tensor, rounds: int) -> dict[str, float]:
    """Median seconds of our parts, each run alone: on CUDA each as a graph of its own."""
    student, packed = sampler.student, sampler.pack(prefix)
    prefix_rotary, rotary, mask = student.tables(packed)
    prefix_mask = None if mask is None else mask[..., : mask.shape[-1] - noise.shape[1]]
    embedded = student.embed(packed)
    context = student.read(embedded, prefix_rotary, prefix_mask)
    parts: dict[str, Callable[[], Any]] = {
        "vision": lambda: student.embed(packed),
        "prefix": lambda: student.read(embedded, prefix_rotary, prefix_mask),
        "steps": lambda: student.denoise(noise, context, rotary, mask),
    }
    if sampler.cache is not None:
        parts = {name: capture(part, noise.device)[0].replay for name, part in parts.items()}
    timings = [(Timing(name), _timer(part, noise.device)) for name, part in parts.items()]
    take_turns(timings, rounds)
    return {timing.name: timing.median for timing, _ in timings}


def _timer(function: Callable[[], Any], device: torch.device) -> Callable[[], float]:
    return lambda: seconds(function, device)
