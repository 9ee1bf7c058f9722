"""Which episodes of a data set a mixture takes, and which of them may show their labels."""

import numpy as np

from data_mixtures.config import DatasetConfig
from data_mixtures.sampling.id_hash import hash_ids
from data_mixtures.storage.index import Index

# Which episodes are labelled is a property of the data, not of a run: it is the same under every training seed.
_LABEL_SEED, _LABEL_STREAM = 0, 3


def taken_episodes(index: Index, config: DatasetConfig) -> np.ndarray:
    """The episodes a data set's config selects, rising, int64 [n]; an episode's task is its instruction."""
    taken = np.flatnonzero(index.success != 0) if config.only_successes else np.arange(index.num_episodes)
    if not len(taken):
        raise ValueError(f"{config.path}: every episode is marked as a failure, and only_successes leaves those out")
    if config.skip_per_task == 0 and config.episodes_per_task is None:
        return taken
    rank = _rank_in_task(index.task[taken], taken)
    stop = np.inf if config.episodes_per_task is None else config.skip_per_task + config.episodes_per_task
    taken = taken[(rank >= config.skip_per_task) & (rank < stop)]
    if not len(taken):
        raise ValueError(f"{config.path}: skip_per_task {config.skip_per_task} leaves no episode: lower it")
    return taken


def labelled_episodes(index: Index, taken: np.ndarray, share: float) -> np.ndarray:
    """Of the episodes taken, those whose states and actions may be seen: `share` of every task, at least one."""
    if share in (0, 1):
        return taken[: len(taken) * int(share)]
    draws = hash_ids(_LABEL_SEED, _LABEL_STREAM, index.source_episode[taken])
    task = index.task[taken]
    rank = _rank_in_task(task, draws)
    tasks, sizes = np.unique(task, return_counts=True)
    wanted = np.maximum(1, np.round(share * sizes))
    return taken[rank < wanted[np.searchsorted(tasks, task)]]


def _rank_in_task(task: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Each entry's place among those of its task, by rising `order`: int64 [n]."""
    by_task = np.lexsort((order, task))
    sorted_tasks = task[by_task]
    starts = np.flatnonzero(np.r_[True, sorted_tasks[1:] != sorted_tasks[:-1]])
    group = np.cumsum(np.r_[True, sorted_tasks[1:] != sorted_tasks[:-1]]) - 1
    rank = np.empty(len(task), dtype=np.int64)
    rank[by_task] = np.arange(len(task)) - starts[group]
    return rank
