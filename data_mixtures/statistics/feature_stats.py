"""The statistics LeRobot v3.0 keeps beside every feature: exact, from numerics or from pixel histograms."""

from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
Stats = dict[str, Any]


def numeric_stats(values: np.ndarray) -> Stats:
    """Statistics of a column [n, dim] (or [n]): lists of `dim` floats, and `count` as [n]."""
    table = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    stats = {"min": table.min(0), "max": table.max(0), "mean": table.mean(0), "std": table.std(0)}
    stats |= dict(zip(QUANTILES, np.quantile(table, list(QUANTILES.values()), axis=0), strict=True))
    return {name: value.tolist() for name, value in stats.items()} | {"count": [len(table)]}


def pixel_histogram(frames: np.ndarray) -> np.ndarray:
    """Counts [3, 256] of the byte values of frames uint8 [T, H, W, 3]; histograms of episodes add up."""
    offset = (np.arange(3, dtype=np.uint16) * 256)[None, :]
    return np.bincount((frames.reshape(-1, 3) + offset).ravel(), minlength=768).reshape(3, 256)


def image_stats(histogram: np.ndarray, num_frames: int) -> Stats:
    """Statistics from counts [3, 256], pixels scaled to 0..1, in LeRobot's [3, 1, 1] shape; `count` is frames."""
    levels = np.arange(256) / 255
    total = histogram.sum(1, keepdims=True)
    mean = (histogram * levels).sum(1, keepdims=True) / total
    seen = histogram > 0
    stats = {
        "min": levels[seen.argmax(1)],
        "max": levels[255 - seen[:, ::-1].argmax(1)],
        "mean": mean[:, 0],
        "std": np.sqrt((histogram * (levels - mean) ** 2).sum(1) / total[:, 0]),
    }
    reached = histogram.cumsum(1) / total
    stats |= {name: levels[(reached >= quantile).argmax(1)] for name, quantile in QUANTILES.items()}
    return {name: value.reshape(3, 1, 1).tolist() for name, value in stats.items()} | {"count": [num_frames]}
