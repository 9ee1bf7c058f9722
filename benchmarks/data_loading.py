"""Windows a second out of each way to store frames, on one core and the same files: `vla bench data`.

    original files     our reader on a LeRobot v3.0 folder (H.264, every second frame a keyframe)
    shards             the same frames after `vla data ingest`
    decoded            the same frames decoded once into a memory map
    LeRobot            its own LeRobotDataset on the same folder, when LEROBOT_SRC names its source tree's `src`
                       (several folders may be given, separated as in PATH, for what it imports)

A sample is what a training step needs: 16 consecutive frames of one camera (or one), the state and 16 actions, and the
instruction. Ours are uint8, to be made float on the device; LeRobot gives float32. Windows start anywhere at random.
Every figure is taken in a process of its own, pinned to one core; rates are those of processor time, the best of some
repeats. `--million` adds a mixture of a million episodes (files of holes: nothing but their size is real).

Results go to benchmarks/results/data_loading.{json,md}.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

FPS, WINDOW, CAMERA, ROBOT = 10, 16, "top", "metaworld_sawyer"
RESULTS = Path(__file__).parent / "results"
Sampled = Callable[[np.ndarray], object]  # rows at which samples start -> anything


def main() -> None:
    """Measure what is asked for, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--length", type=int, default=200, help="frames an episode")
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--seconds", type=float, default=5.0, help="each measurement, about")
    parser.add_argument("--repeats", type=int, default=3, help="of each; the best counts")
    parser.add_argument("--av1", action="store_true", help="also as AV1, which is what LeRobot itself records")
    parser.add_argument("--million", action="store_true", help="also a mixture of a million episodes")
    parser.add_argument("--work", type=Path, help="keep the test data here; a temporary folder when not given")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # this is a child process
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(MEASUREMENTS[options.measure](options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.work = options.work or Path(folder)
        figures = _measure_all(options)
    _write_results(figures, options)


def _measure_all(options: argparse.Namespace) -> dict[str, Any]:
    _prepare(options)
    names = ["original", "shards", "decoded", "lerobot", "ingest", "quality", "statistics"]
    if options.av1:
        names += ["original_av1", "lerobot_av1"]
    if options.million:
        _write_million(options.work / "million")
        names += ["million"]
    figures: dict[str, Any] = {}
    for repeat in range(options.repeats):  # one after the other, so that a busy minute falls on all alike
        for name in names:
            if name in ("quality", "million") and repeat:
                continue
            found = _in_child(name, options)
            if found is None:
                continue
            figures[name] = found if name not in figures else _better(figures[name], found)
            print(f"{name:14s} {json.dumps(found)}", flush=True)
    return figures


def _better(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """The better of two runs, figure by figure: rates are high, times and memory low."""
    return {
        name: value if isinstance(value, str) else (max if "per_s" in name else min)(value, b[name])
        for name, value in a.items()
    }


def _in_child(name: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """One measurement in a fresh process on one core; None (and why) where it cannot be taken."""
    arguments = [f"--{key}={getattr(options, key)}" for key in ("episodes", "length", "size", "seconds", "work")]
    command = [sys.executable, "-W", "ignore", __file__, "--measure", name, *arguments]
    single = {key: "1" for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    core = max(os.sched_getaffinity(0))
    run = subprocess.run(
        command,
        env=os.environ | single | {"TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    if run.returncode:
        print(f"{name:14s} not measured: {(run.stderr.strip().splitlines() or ['?'])[-1]}", flush=True)
        return None
    return json.loads(run.stdout.splitlines()[-1])


# ------------------------------------------------------------------------------------------------------- test data


def _prepare(options: argparse.Namespace) -> None:
    """The same frames as LeRobot folders and shards; what is there already is kept."""
    from data_mixtures.shards.ingest import ingest

    lerobot = options.work / "lerobot"
    if not lerobot.exists():
        _write_lerobot(lerobot, options)
    if options.av1 and not (options.work / "lerobot_av1").exists():
        _write_av1(lerobot, options.work / "lerobot_av1")
    ingest(partial(_reader, lerobot), options.work / "shards", name="bench", size=options.size)


def _reader(root: Path) -> Any:
    from data_mixtures.config import DatasetConfig
    from data_mixtures.readers.opening import open_reader

    return open_reader(DatasetConfig(str(root)))


def _write_lerobot(root: Path, options: argparse.Namespace) -> None:
    from data_mixtures.lerobot.writer import LeRobotWriter

    columns = {"observation.state": 4, "action": 4}
    with LeRobotWriter(root, FPS, ROBOT, {CAMERA: (options.size, options.size)}, columns, "yuv420p") as writer:
        for episode in range(options.episodes):
            rng = np.random.default_rng(episode)
            values = {name: rng.random((options.length, dim), dtype=np.float32) for name, dim in columns.items()}
            frames = _scene(options.length, options.size, episode)
            writer.add_episode({CAMERA: frames}, values, f"task {episode % 10}")
    _without_language(root)


def _without_language(root: Path) -> None:
    """Drop the sub-task column, which LeRobot before 0.5 does not know."""
    import pyarrow.parquet as pq

    from data_mixtures.lerobot.layout import INFO_PATH, LANGUAGE_COLUMN

    info = json.loads((root / INFO_PATH).read_text())
    del info["features"][LANGUAGE_COLUMN]
    (root / INFO_PATH).write_text(json.dumps(info, indent=2))
    for path in root.glob("data/*/*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns([LANGUAGE_COLUMN]), path)


def _scene(length: int, size: int, seed: int) -> np.ndarray:
    """A textured table with five textured things moving over it, and camera noise: uint8 [length, size, size, 3]."""
    rng = np.random.default_rng(seed)
    table = _texture(rng, size, (90, 110, 120), 30)
    things = [(_texture(rng, size // 4, tuple(rng.integers(30, 220, 3)), 40), *rng.random(4)) for _ in range(5)]
    frames = np.empty((length, size, size, 3), dtype=np.uint8)
    y, x = np.mgrid[0 : size // 4, 0 : size // 4] / (size / 4) - 0.5
    disc = (x**2 + y**2 < 0.22)[..., None]
    for step in range(length):
        picture = table.copy()
        for thing, speed, phase, wide, high in things:
            angle = 2 * np.pi * (phase + step * (0.2 + speed) / 80)
            left = int((0.375 + 0.35 * wide * np.cos(angle)) * size)
            top = int((0.375 + 0.35 * high * np.sin(angle)) * size)
            patch = picture[top : top + size // 4, left : left + size // 4]
            patch[:] = np.where(disc, thing, patch)
        noise = rng.standard_normal((size, size, 1), dtype=np.float32)
        frames[step] = np.clip(picture + 0.8 * noise, 0, 255).astype(np.uint8)
    return frames


def _texture(rng: np.random.Generator, size: int, color: tuple[int, ...], contrast: float) -> np.ndarray:
    """Noise around a colour, as much as makes a scene cost a codec what recorded ones do: float32 [size, size, 3]."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / frequency**1.5
    field = np.fft.irfft2(spectrum, (size, size))
    return (np.array(color) + contrast * (field / field.std())[..., None]).astype(np.float32)


def _write_av1(root: Path, target: Path) -> None:
    """The folder again, its videos as LeRobot records them: AV1, yuv420p, every second frame a keyframe, CRF 30."""
    import av

    shutil.copytree(root, target)
    for path in sorted(target.glob("videos/*/*/*.mp4")):
        aside = path.with_name("av1.mp4")
        with av.open(str(path)) as source, av.open(str(aside), "w") as video:
            picture = source.streams.video[0]
            stream = video.add_stream("libsvtav1", rate=FPS, options={"crf": "30", "g": "2", "preset": "10"})
            stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
            for number, frame in enumerate(source.decode(picture)):
                frame.pts, frame.time_base = number, 1 / stream.codec_context.framerate
                frame.pict_type = 0
                video.mux(stream.encode(frame))
            video.mux(stream.encode(None))
        os.replace(aside, path)


# ---------------------------------------------------------------------------------------------------- measurements


def _rates(options: argparse.Namespace, window: Sampled, single: Sampled) -> dict[str, float]:
    """Samples a second of processor time (so that what else runs counts little) at the same random rows for all."""
    import torch

    torch.set_num_threads(1)
    rates = {}
    for name, take, frames in (("windows_per_s", window, WINDOW), ("frames_per_s", single, 1)):
        rng = np.random.default_rng(0)
        starts = rng.integers(0, options.length - frames + 1, 100_000)
        rows = rng.integers(0, options.episodes, 100_000) * options.length + starts
        for row in rows[:20].tolist():
            take(row + np.arange(frames))
        done, started = 20, time.process_time()
        while time.process_time() - started < options.seconds:
            take(rows[done] + np.arange(frames))
            done += 1
        rates[name] = (done - 20) / (time.process_time() - started)
    return rates


def _measure_source(options: argparse.Namespace, open_source: Callable[[], tuple[Any, Any]]) -> dict[str, Any]:
    started = time.perf_counter()
    index, frames = open_source()
    opened = time.perf_counter() - started

    def take(rows: np.ndarray) -> object:
        images = frames.images(CAMERA, rows, options.size)
        return images, index.numerics(rows), index.instructions(rows[:1])

    return _rates(options, take, take) | {"open_ms": 1e3 * opened}


def _measure_original(options: argparse.Namespace, folder: str = "lerobot") -> dict[str, Any]:
    from data_mixtures.storage.frames import OriginalFrames

    reader, index = _indexed(options.work / folder)

    def open_source() -> tuple[Any, Any]:
        return index, OriginalFrames(_reader(options.work / folder), index)

    del reader
    return _measure_source(options, open_source)


def _indexed(root: Path) -> tuple[Any, Any]:
    """A reader and the index of its data set, built beside it once."""
    from data_mixtures.storage.dataset import build_index
    from data_mixtures.storage.index import Index

    reader, folder = _reader(root), root.with_name(f"{root.name}_index")
    if not folder.exists():
        build_index(reader, "bench", folder)
    return reader, Index(folder)


def _measure_shards(options: argparse.Namespace) -> dict[str, Any]:
    from data_mixtures.shards.shard_frames import open_shards

    return _measure_source(options, lambda: open_shards(options.work / "shards"))


def _measure_decoded(options: argparse.Namespace) -> dict[str, Any]:
    from data_mixtures.storage.frames import DecodedFrames

    reader, index = _indexed(options.work / "lerobot")
    frames = DecodedFrames(reader, index, options.work / "decoded")
    frames.images(CAMERA, np.array([0]), options.size)  # decodes all, the first time
    return _measure_source(options, lambda: (index, DecodedFrames(reader, index, options.work / "decoded")))


def _measure_lerobot(options: argparse.Namespace, folder: str = "lerobot") -> dict[str, Any]:
    """LeRobot's class as its training script uses it, and its decoder alone (frames still uint8)."""
    if "LEROBOT_SRC" not in os.environ:
        raise SystemExit("set LEROBOT_SRC to the `src` folder of a checkout of github.com/huggingface/lerobot")
    sys.path[:0] = os.environ["LEROBOT_SRC"].split(os.pathsep)
    from lerobot import __version__ as version  # pyright: ignore[reportMissingImports]
    from lerobot.datasets import video_utils  # pyright: ignore[reportMissingImports]
    from lerobot.datasets.lerobot_dataset import LeRobotDataset  # pyright: ignore[reportMissingImports]

    root, key = options.work / folder, f"observation.images.{CAMERA}"
    steps = [step / FPS for step in range(WINDOW)]
    started = time.perf_counter()
    windows = LeRobotDataset("bench/bench", root=root, delta_timestamps={key: steps, "action": steps})
    opened = time.perf_counter() - started
    singles = LeRobotDataset("bench/bench", root=root)
    rates = _rates(options, lambda rows: windows[int(rows[0])], lambda rows: singles[int(rows[0])])
    figures: dict[str, Any] = rates | {"open_ms": 1e3 * opened, "backend": windows.video_backend, "version": version}
    if windows.video_backend == "torchcodec":
        path = next(iter(sorted(root.glob("videos/*/*/*.mp4"))))
        decoder = video_utils.VideoDecoderCache().get_decoder(str(path))
        alone = _rates(options, lambda rows: decoder.get_frames_at(rows.tolist()), lambda rows: decoder[int(rows[0])])
        figures |= {f"decoder_{name}": rate for name, rate in alone.items()}
    return figures


def _measure_ingest(options: argparse.Namespace) -> dict[str, Any]:
    """Frames a second through `ingest` in one process: read, fitted, encoded, written, joined."""
    import torch

    from data_mixtures.shards.ingest import ingest

    torch.set_num_threads(1)
    episodes = min(10, options.episodes)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        started = time.process_time()
        meta = ingest(
            partial(_reader, options.work / "lerobot"),
            Path(folder) / "set",
            name="bench",
            size=options.size,
            episodes=(0, episodes),
        )
        return {"ingest_frames_per_s": meta.num_rows / (time.process_time() - started)}


def _measure_quality(options: argparse.Namespace) -> dict[str, Any]:
    """Bytes a frame, and how near the shards' pictures are to those of the files they came from."""
    from data_mixtures.shards.shard_frames import open_shards
    from data_mixtures.storage.frames import fit_square

    index, frames = open_shards(options.work / "shards")
    reader, errors = _reader(options.work / "lerobot"), []
    for episode in range(0, options.episodes, 4):
        rows = np.arange(*index.first_row[episode : episode + 2])
        original = fit_square(reader.frames(episode, CAMERA, rows - rows[0]), options.size)
        difference = original.astype(np.float32) - frames.images(CAMERA, rows, options.size)
        errors.append(float(np.mean(difference**2)))
    videos = sum(path.stat().st_size for path in (options.work / "lerobot").glob("videos/*/*/*.mp4"))
    packets = sum(frames.meta.files[name].num_bytes for name in frames.meta.shard_names(0))
    return {
        "psnr_db": float(10 * np.log10(255**2 / np.mean(errors))),
        "shard_bytes_a_frame": packets / index.num_rows,
        "original_bytes_a_frame": videos / index.num_rows,
    }


def _measure_statistics(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds for the quantiles of a million frames of one arm."""
    from data_mixtures.statistics.streaming import statistics_of
    from data_mixtures.storage.index import Index

    folder = options.work / "numerics"
    if not folder.exists():
        _write_numerics(folder, episodes=5000, length=200)
    index = Index(folder)
    started = time.perf_counter()
    statistics_of(index)
    return {"seconds_a_million_frames": (time.perf_counter() - started) / index.num_rows * 1e6}


def _no_frames(camera: str, numbers: np.ndarray) -> np.ndarray:
    raise NotImplementedError("a data set of numbers only")


def _write_numerics(folder: Path, episodes: int, length: int) -> None:
    from data_mixtures.episode import Episode
    from data_mixtures.spaces.unified import ACTION_DIM, STATE_DIM, Numerics
    from data_mixtures.storage.index import IndexWriter

    rng = np.random.default_rng(0)
    masks = [np.tile(np.arange(dim) < used, (length, 1)) for dim, used in ((STATE_DIM, 8), (ACTION_DIM, 7))]
    aside = folder.with_name("numerics.partial")
    with IndexWriter(aside) as writer:
        for number in range(episodes):
            state, actions = (np.where(mask, rng.normal(size=mask.shape), 0).astype(np.float32) for mask in masks)
            numerics = Numerics(state, masks[0], actions, masks[1])
            episode = Episode(str(number), f"task {number % 100}", [], FPS, ROBOT, numerics, [], _no_frames)
            writer.add(episode, number)
        writer.finish(name="numbers", cameras=[], robot_type=ROBOT, fingerprint="0" * 16, quarantined=[])
    aside.rename(folder)


# ------------------------------------------------------------------------------------------------ a million episodes


def _write_million(root: Path, episodes: int = 1_000_000, length: int = 200) -> None:
    """Shards of a million episodes: what opening and sampling read is real, numerics and packets are holes."""
    if root.exists():
        return
    from data_mixtures.shards import layout
    from data_mixtures.storage.index import VERSION as INDEX_VERSION
    from data_mixtures.storage.index import IndexMeta

    aside = root.with_name("million.partial")
    shutil.rmtree(aside, ignore_errors=True)
    index, camera = aside / layout.INDEX_FOLDER, aside / layout.camera_folder(0)
    for folder in (index, camera):
        folder.mkdir(parents=True)
    rng, rows = np.random.default_rng(0), episodes * length
    texts = ["", *(f"put the thing number {number} where it belongs" for number in range(20_000))]
    real = {
        "first_row": np.arange(episodes + 1) * length,
        "fps": np.full(episodes, FPS, dtype=np.float32),
        "task": rng.integers(1, len(texts), episodes).astype(np.int32),
        "source_episode": np.arange(episodes),
        "success": np.full(episodes, -1, dtype=np.int8),
        "span_of": np.arange(episodes + 1) * 2,
        "span_start": np.tile(np.array([0, length // 2], dtype=np.int32), episodes),
        "span_text": rng.integers(1, len(texts), 2 * episodes).astype(np.int32),
    }
    for name, values in real.items():
        np.save(index / f"{name}.npy", values)
    holes = {index / "state.npy": (rows, 8, np.float32), index / "state_mask.npy": (rows, 8, np.bool_)}
    holes |= {index / "actions.npy": (rows, 7, np.float32), index / "action_mask.npy": (rows, 7, np.bool_)}
    for path, (count, dim, dtype) in holes.items():
        np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(count, dim))
    np.lib.format.open_memmap(camera / "offsets.npy", mode="w+", dtype=np.int64, shape=(rows + 1,))
    np.lib.format.open_memmap(camera / "crc32.npy", mode="w+", dtype=np.uint32, shape=(rows // 8,))
    (camera / layout.shard_file(0)).write_bytes(b"")
    meta = IndexMeta(
        INDEX_VERSION, "million", rows, episodes, [CAMERA], ROBOT, "0" * 16, list(range(8)), list(range(7))
    )
    for name, words in (("meta", asdict(meta)), ("texts", texts), ("defects", [])):
        (index / f"{name}.json").write_text(json.dumps(words))
    (aside / layout.KEYS_FILE).write_text("".join(f'"episode_{number:07d}"\n' for number in range(episodes)))
    files = {}
    for path in sorted(path for path in aside.rglob("*") if path.is_file()):
        size = path.stat().st_size
        stored = layout.stored_file(path) if size < 2**23 else layout.StoredFile(size, "")
        files[path.relative_to(aside).as_posix()] = stored
    counts = (rows, episodes, 0)
    layout.write_meta(
        aside,
        layout.ShardsMeta(layout.VERSION, "million", "0" * 16, "", 256, 8, "yuv420p", [CAMERA], *counts, files),
    )
    aside.rename(root)


def _measure_million(options: argparse.Namespace) -> dict[str, Any]:
    """Opening the mixture of a million episodes, memory it takes, and drawing from it."""
    import torch

    from data_mixtures.config import DatasetConfig, MixtureConfig, WindowConfig
    from data_mixtures.mixture import Mixture
    from data_mixtures.sampling.sampler import EpochSampler, Sampler

    torch.set_num_threads(1)
    before = _resident_mb()
    dataset = DatasetConfig(str(options.work / "million"))
    config = MixtureConfig([dataset], [CAMERA], WindowConfig(WINDOW, WINDOW), options.size)
    started = time.perf_counter()
    mixture = Mixture(config, seed=0)
    opened = time.perf_counter() - started
    ids = np.arange(512)
    mixture.sample_window(0)
    resident, private = _resident_mb(), _private_mb()
    million = mixture.num_frames
    many = Sampler([1.0] * 27, [million // 27] * 27, 0)
    epochs = EpochSampler([million // 27] * 27, 0)
    source = mixture.sources[0]

    def places(step: int) -> object:
        _, windows = many.draw(ids + 512 * step)
        return source.frame_rows(source.rows_of(windows))

    return {
        "open_s": opened,
        "process_mb": resident,
        "process_private_mb": private,
        "mixture_mb": resident - before,
        "highest_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "draw_512_ms": _per_call_ms(lambda step: many.draw(ids + 512 * step)),
        "draw_epoch_512_ms": _per_call_ms(lambda step: epochs.draw(ids + 512 * step)),
        "draw_and_place_512_ms": _per_call_ms(places),
    }


def _per_call_ms(call: Callable[[int], object], count: int = 300) -> float:
    for step in range(10):
        call(step)
    started = time.perf_counter()
    for step in range(count):
        call(step)
    return 1e3 * (time.perf_counter() - started) / count


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _private_mb() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "original": _measure_original,
    "original_av1": partial(_measure_original, folder="lerobot_av1"),
    "shards": _measure_shards,
    "decoded": _measure_decoded,
    "lerobot": _measure_lerobot,
    "lerobot_av1": partial(_measure_lerobot, folder="lerobot_av1"),
    "ingest": _measure_ingest,
    "quality": _measure_quality,
    "statistics": _measure_statistics,
    "million": _measure_million,
}


# --------------------------------------------------------------------------------------------------------- results


def _write_results(figures: dict[str, Any], options: argparse.Namespace) -> None:
    machine = {"cpu": _cpu_name(), "cores": os.cpu_count(), "load_at_end": round(os.getloadavg()[0], 1)}
    settings = {name: getattr(options, name) for name in ("episodes", "length", "size", "seconds", "repeats")}
    options.results.mkdir(parents=True, exist_ok=True)
    words = json.dumps({"machine": machine, "settings": settings, "figures": figures}, indent=1)
    (options.results / "data_loading.json").write_text(words + "\n")
    table = _table(figures, machine, settings)
    (options.results / "data_loading.md").write_text(table)
    print("\n" + table)


def _table(figures: dict[str, Any], machine: dict[str, Any], settings: dict[str, Any]) -> str:
    names = {
        "shards": "ingested shards",
        "decoded": "decoded once (memory map)",
        "original": "original files (H.264, every 2nd frame a keyframe)",
        "lerobot": "LeRobot's LeRobotDataset, same files",
        "original_av1": "original files as AV1 (LeRobot's recording)",
        "lerobot_av1": "LeRobot's LeRobotDataset, AV1 files",
    }
    peer = figures.get("lerobot")
    lines = [
        "# Loading, one core",
        "",
        f"{machine['cpu']}, one core of {machine['cores']} (load average {machine['load_at_end']}); "
        f"{settings['episodes']} episodes of {settings['length']} frames, {settings['size']} px; best of "
        f"{settings['repeats']}. A window is 16 consecutive frames, state, 16 actions and the instruction."
        + (f" LeRobot {peer['version']}, {peer['backend']}." if peer else ""),
        "",
        "| | windows/s | x LeRobot | single frames/s | x LeRobot | opens in ms |",
        "|---|---|---|---|---|---|",
    ]
    for name, words in names.items():
        if name in figures:
            row = figures[name]
            ratios = [f"{row[rate] / peer[rate]:.1f}" if peer else "" for rate in ("windows_per_s", "frames_per_s")]
            lines.append(
                f"| {words} | {row['windows_per_s']:,.0f} | {ratios[0]} | {row['frames_per_s']:,.0f} | {ratios[1]} | "
                f"{row['open_ms']:.0f} |"
            )
    if peer and "decoder_windows_per_s" in peer:
        lines.append(
            f"| LeRobot's decoder alone ({peer['backend']}, frames uint8) | {peer['decoder_windows_per_s']:,.0f} | "
            f"{peer['decoder_windows_per_s'] / peer['windows_per_s']:.1f} | {peer['decoder_frames_per_s']:,.0f} | "
            f"{peer['decoder_frames_per_s'] / peer['frames_per_s']:.1f} | |"
        )
    lines += ["", *(f"- {name}: {_figures(figures[name])}" for name in SECOND if name in figures), ""]
    return "\n".join(lines)


SECOND = ("quality", "ingest", "statistics", "million")


def _figures(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:,.2f}" for name, value in row.items())


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


if __name__ == "__main__":
    main()
