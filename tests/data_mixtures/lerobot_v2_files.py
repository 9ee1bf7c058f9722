"""Writes LeRobot v2.0 and v2.1 data sets as LeRobot 0.1-0.3 and GR00T published them."""

import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from recorded import moving_frames

FPS = 20
TASKS = ("pick the pear", "valid", "place the cup")
STATE_DIM, ACTION_DIM = 8, 7


def write_video(
    path: Path, frames: np.ndarray, fps: float = FPS, gop: int = 12, b_frames: int = 2, codec: str = "libx264"
) -> None:
    """Frames uint8 [T, H, W, 3] in any container PyAV knows by the file's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.thread_count = gop, 1
        stream.codec_context.max_b_frames = b_frames
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def decoded(path: Path) -> np.ndarray:
    """Every frame of a video by one sequential decode: uint8 [T, H, W, 3]."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def raw_numerics(length: int, seed: int) -> dict[str, np.ndarray]:
    """float64 state [T, 8] (xyz m, axis-angle, two fingers) and action [T, 7] of a slow walk."""
    rng = np.random.default_rng(seed)
    steps = rng.uniform(-0.01, 0.01, (length, 6)).cumsum(axis=0)
    fingers = rng.uniform(0, 0.04, (length, 1))
    return {
        "observation.state": np.concatenate([steps, fingers, -fingers], axis=1),
        "action": rng.uniform(-1, 1, (length, ACTION_DIM)),
    }


def write_v2(
    root: Path,
    lengths: list[int],
    version: str = "v2.1",
    cameras: tuple[str, ...] = ("front",),
    image_dtype: bool = False,
    fixed_size_lists: bool = False,
    float32: bool = False,
    gr00t: bool = False,
    size: int = 32,
    robot_type: str = "libero",
) -> Path:
    """A data set of episodes with these lengths; episode e's task is TASKS[0] or TASKS[2] in turn."""
    (root / "meta").mkdir(parents=True)
    value = np.float32 if float32 else np.float64
    first_row, stats = 0, []
    for episode, length in enumerate(lengths):
        columns = {name: values.astype(value) for name, values in raw_numerics(length, episode).items()}
        arrays: dict[str, Any] = {name: _lists(values, fixed_size_lists) for name, values in columns.items()}
        task = 2 * (episode % 2)
        arrays["timestamp"] = pa.array((np.arange(length) / FPS).astype(np.float32))
        arrays["frame_index"] = pa.array(np.arange(length))
        arrays["episode_index"] = pa.array(np.full(length, episode))
        arrays["index"] = pa.array(first_row + np.arange(length))
        arrays["task_index"] = pa.array(np.full(length, task))
        if gr00t:
            half = np.arange(length) < length // 2
            arrays["annotation.human.coarse_action"] = pa.array(np.where(half, task, 2 - task))
            arrays["annotation.human.validity"] = pa.array(np.full(length, 1))
            del arrays["frame_index"]
        for number, camera in enumerate(cameras):
            frames = moving_frames(max(length, 1), size, 100 * episode + number)[:length]
            if image_dtype:
                arrays[f"observation.images.{camera}"] = pa.array(
                    [{"bytes": _png(pixels), "path": f"frame_{n:06d}.png"} for n, pixels in enumerate(frames)],
                    type=pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
                )
            elif length:
                write_video(video_path(root, episode, camera), frames)
        data_path(root, episode).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(arrays), data_path(root, episode))
        stats.append({"episode_index": episode, "stats": {n: _stats(v) for n, v in columns.items() if length}})
        first_row += length
    _write_meta(root, lengths, version, cameras, image_dtype, float32, size, robot_type, stats)
    if gr00t:
        _write_modality(root, cameras)
    return root


def data_path(root: Path, episode: int) -> Path:
    return root / f"data/chunk-{episode // 1000:03d}/episode_{episode:06d}.parquet"


def video_path(root: Path, episode: int, camera: str = "front") -> Path:
    return root / f"videos/chunk-{episode // 1000:03d}/observation.images.{camera}/episode_{episode:06d}.mp4"


def edit_info(root: Path, **changes: Any) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_column(path: Path, name: str, values: Any, new_name: str | None = None) -> None:
    """Replace a parquet file's column, or drop it when `values` is None."""
    table = pq.read_table(path)
    place = table.schema.get_field_index(name)
    table = table.remove_column(place) if values is None else table.set_column(place, new_name or name, values)
    pq.write_table(table, path)


def _lists(values: np.ndarray, fixed_size: bool) -> pa.Array:
    if fixed_size:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    return pa.array(list(values), type=pa.list_(pa.from_numpy_dtype(values.dtype)))


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _stats(values: np.ndarray) -> dict[str, Any]:
    figures = {name: getattr(values, name)(axis=0).tolist() for name in ("min", "max", "mean", "std")}
    return figures | {"count": [len(values)]}


def _write_meta(
    root: Path,
    lengths: list[int],
    version: str,
    cameras: tuple[str, ...],
    image_dtype: bool,
    float32: bool,
    size: int,
    robot_type: str,
    stats: list[dict[str, Any]],
) -> None:
    number = "float32" if float32 else "float64"
    features: dict[str, Any] = {
        "observation.state": {"dtype": number, "shape": [STATE_DIM], "names": None},
        "action": {"dtype": number, "shape": [ACTION_DIM], "names": None},
    }
    for camera in cameras:
        features[f"observation.images.{camera}"] = {
            "dtype": "image" if image_dtype else "video",
            "shape": [size, size, 3],
            "names": ["height", "width", "channel"],
        }
    for name, dtype in (("timestamp", "float32"), ("frame_index", "int64"), ("episode_index", "int64")):
        features[name] = {"dtype": dtype, "shape": [1], "names": None}
    info = {
        "codebase_version": version,
        "robot_type": robot_type,
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "total_tasks": len(TASKS),
        "total_videos": 0 if image_dtype else len(lengths) * len(cameras),
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": None
        if image_dtype
        else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info, indent=4))
    _jsonl(root / "meta/tasks.jsonl", [{"task_index": n, "task": task} for n, task in enumerate(TASKS)])
    _jsonl(
        root / "meta/episodes.jsonl",
        [
            {"episode_index": n, "tasks": [TASKS[2 * (n % 2)], "valid"], "length": length}
            for n, length in enumerate(lengths)
        ],
    )
    if version == "v2.1":
        _jsonl(root / "meta/episodes_stats.jsonl", stats)
    else:
        (root / "meta/stats.json").write_text(json.dumps(stats[0]["stats"], indent=4))


def _write_modality(root: Path, cameras: tuple[str, ...]) -> None:
    modality = {
        "state": {
            "eef_position": {"start": 0, "end": 3},
            "eef_rotation": {"start": 3, "end": 6},
            "gripper": {"start": 6, "end": 8},
        },
        "action": {
            "eef_position_delta": {"start": 0, "end": 3},
            "eef_rotation_delta": {"start": 3, "end": 6},
            "gripper": {"start": 6, "end": 7, "original_key": "action"},
        },
        "video": {camera: {"original_key": f"observation.images.{camera}"} for camera in cameras},
        "annotation": {"human.coarse_action": {}, "human.validity": {}},
    }
    (root / "meta/modality.json").write_text(json.dumps(modality, indent=4))


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
