"""Where LeRobot v3.0 keeps things, shared by its writer and its reader.

    meta/info.json                                features, fps, totals, path templates
    meta/stats.json                               min max mean std count q01 q10 q50 q90 q99 of every feature
    meta/tasks.parquet                            task_index, the task string as the pandas index
    meta/episodes/chunk-000/file-000.parquet      one row an episode: spans in the data and video files, stats/*
    data/chunk-000/file-000.parquet               one row a frame, many episodes a file (at most 100 MB)
    videos/<camera key>/chunk-000/file-000.mp4    many episodes a file (at most 200 MB)

A frame's time inside its mp4 is the episode's `from_timestamp` plus the frame's `timestamp`.
"""

from typing import Any

CODEBASE_VERSION = "v3.0"
FILES_PER_CHUNK = 1000
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO_PATH, STATS_PATH, TASKS_PATH = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"

CAMERA_PREFIX = "observation.images."
LANGUAGE_COLUMN = "language_persistent"
SUBTASK_STYLE = "subtask"
# Where `action` is what a policy is to learn and noise came on top: what was carried out. Replayed, it succeeds again.
EXECUTED_COLUMN = "action_executed"

INDEX_COLUMNS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
EPISODE_COLUMNS = frozenset(
    {"episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index"}
    | {f"{part}/{name}_index" for part in ("data", "meta/episodes") for name in ("chunk", "file")}
)
EPISODE_PREFIXES = ("data/", "meta/", "videos/", "stats/")


def chunk_and_file(number: int) -> dict[str, int]:
    """The chunk and file index of the number-th file of a kind, counted from 0."""
    return {"chunk_index": number // FILES_PER_CHUNK, "file_index": number % FILES_PER_CHUNK}


def vector_feature(dim: int, dtype: str = "float32") -> dict[str, Any]:
    """The info.json entry of a numeric column of `dim` values a frame."""
    return {"dtype": dtype, "shape": [dim], "names": None}


def video_feature(height: int, width: int, fps: float, pixel_format: str) -> dict[str, Any]:
    """The info.json entry of an H.264 camera of height x width pixels."""
    return {
        "dtype": "video",
        "shape": [height, width, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": height,
            "video.width": width,
            "video.codec": "h264",
            "video.pix_fmt": pixel_format,
            "video.is_depth_map": False,
            "video.fps": fps,
            "video.channels": 3,
            "has_audio": False,
        },
    }
