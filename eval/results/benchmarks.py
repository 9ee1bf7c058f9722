"""The benchmarks' tables as data: which episodes a column holds, in the order the papers print them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.results.row import EpisodeRow

_MOST_TASK_COLUMNS = 10


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: What published rows call it.
        title: As printed.
        whole: Episodes of one policy under the benchmark's own protocol; 0 where no number is agreed.
        holds: Whether an episode is one of its own.
        averaged: Whether the last column, the mean of columns, counts it.
    """

    key: str
    title: str
    whole: int
    holds: Callable[[EpisodeRow], bool]
    averaged: bool = True


@dataclass(frozen=True)
class Benchmark:
    """One table's form; `key` is what published tables name."""

    key: str
    title: str
    columns: tuple[Column, ...]


def benchmark_key(row: EpisodeRow) -> str:
    """Which benchmark an episode is of."""
    for several in ("libero", "locomotion"):  # suites whose tables have a column for each, or for their one task
        if row.suite.startswith(f"{several}_"):
            return several
    if row.suite.startswith("simpler_"):
        return "/".join(part for part in (row.suite, row.setting.split("/")[0]) if part)
    return row.suite


def benchmark_of(key: str, rows: Sequence[EpisodeRow]) -> Benchmark:
    """The form of a benchmark's table; of one this file does not know, a column for each task of `rows`."""
    if key == "libero":
        return Benchmark(key, "LIBERO", tuple(c for c in _LIBERO if c.averaged or any(map(c.holds, rows))))
    robot, _, grid = key.partition("/")
    if robot in _SIMPLER:
        title, columns = _SIMPLER[robot]
        wholes = _WHOLE.get(grid, {})
        return Benchmark(
            key,
            f"{title} ({grid.replace('_', ' ')})" if grid else title,
            tuple(Column(k, t, wholes.get(k, 0), _of_tasks(tasks)) for k, t, tasks in columns),
        )
    tasks = list(dict.fromkeys(row.task for row in rows))
    if len(tasks) > _MOST_TASK_COLUMNS:
        everything = Column("all", f"All {len(tasks)} tasks", 0, lambda row: True)
        return Benchmark(key, _titled(key), (everything,))
    return Benchmark(key, _titled(key), tuple(_task_column(task) for task in tasks))


def _suite(name: str) -> Callable[[EpisodeRow], bool]:
    return lambda row: row.suite == name


_LIBERO = (
    Column("libero_goal", "LIBERO-Goal", 500, _suite("libero_goal")),
    Column("libero_object", "LIBERO-Object", 500, _suite("libero_object")),
    Column("libero_spatial", "LIBERO-Spatial", 500, _suite("libero_spatial")),
    Column("libero_10", "LIBERO-Long", 500, _suite("libero_10")),
    Column("libero_90", "LIBERO-90", 4500, _suite("libero_90"), averaged=False),
)

_DRAWERS = tuple(f"{verb}_{which}_drawer" for verb in ("open", "close") for which in ("top", "middle", "bottom"))
# (column, title, tasks)
_SIMPLER = {
    "simpler_google": (
        "SIMPLER Google robot",
        (
            ("pick_coke_can", "Pick Coke Can", ("pick_coke_can",)),
            ("move_near", "Move Near", ("move_near",)),
            ("drawer", "Open/Close Drawer", _DRAWERS),
            ("apple", "Open Top Drawer and Place Apple", ("place_apple_in_top_drawer",)),
        ),
    ),
    "simpler_widowx": (
        "SIMPLER WidowX robot",
        (
            ("spoon", "Put Spoon on Towel", ("put_spoon_on_towel",)),
            ("carrot", "Put Carrot on Plate", ("put_carrot_on_plate",)),
            ("stack", "Stack Green Block on Yellow Block", ("stack_green_block_on_yellow_block",)),
            ("eggplant", "Put Eggplant in Yellow Basket", ("put_eggplant_in_basket",)),
        ),
    ),
}
_WHOLE = {
    "visual_matching": {
        **{"pick_coke_can": 300, "move_near": 240, "drawer": 216, "apple": 108},
        **dict.fromkeys(("spoon", "carrot", "stack", "eggplant"), 24),
    },
    # Without the camera variants, as in the papers' means.
    "variant_aggregation": {"pick_coke_can": 675, "move_near": 480, "drawer": 378, "apple": 189},
}


def _of_tasks(tasks: tuple[str, ...]) -> Callable[[EpisodeRow], bool]:
    return lambda row: row.task in tasks


def _task_column(task: str) -> Column:
    key = task.removesuffix("-v3")
    return Column(key, key.replace("-", " ").replace("_", " "), 0, lambda row: row.task == task)


def _titled(key: str) -> str:
    name, _, subset = key.partition("_")
    return f"Meta-World {subset.upper()}".strip() if name == "metaworld" else key
