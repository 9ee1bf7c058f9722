"""Published rows are the papers' own, number for number."""

import re
from pathlib import Path

import pytest

from eval.results.published import all_published, published_tables

SEEDS = Path(__file__).parents[4] / "shared" / "seeds"
FILES = {"CLAM": "001_", "LatBot": "002_", "LARA": "003_"}
LOST = {"π0-FAST": "0-FAST", "π0.5-LARA (L-2 layer)": "-LARA (L-2 layer)", "π0.5-LARA (L layer)": "-LARA (L layer)"}


def _of(paper, table, about=""):
    (found,) = [t for t in all_published() if (t.paper, t.table) == (paper, table) and about in t.about]
    return found


def _row(table, method):
    (found,) = [r for r in table.rows if r.method == method]
    return found


def test_every_table_of_results_is_there():
    assert [(t.paper, t.table) for t in all_published()] == [
        *(("CLAM", str(n)) for n in range(1, 10)),
        *(("LARA", n) for n in ("1", "1", "2", "3", "S.3", "Fig. S.3")),
        *(("LatBot", n) for n in ("1", "1", "2", "3", "4", "5")),
    ]
    assert sum(len(t.rows) for t in all_published()) == 131


def test_spot_checks():
    latbot = _of("LatBot", "3")
    assert latbot.columns == ("libero_goal", "libero_object", "libero_spatial", "libero_10")
    ours = _row(latbot, "Ours")
    assert (ours.values, ours.mean) == ((98.6, 98.8, 99.0, 95.4), 98.0)
    assert _row(_of("LatBot", "1", "visual matching"), "villa-X").values == (81.7, 55.4, 38.4, None)
    assert _row(_of("LatBot", "1", "variant"), "RT-2-X").mean == 54.4
    assert _row(_of("LatBot", "2"), "SpatialVLA").values == (16.7, 25.0, 29.2, 100)
    assert _row(_of("LARA", "1", "LIBERO"), "LARA (full)").values == (88.0, 92.0, 88.5, 86.0)
    clam = _row(_of("CLAM", "2"), "Cont., JT")
    assert (clam.values, clam.errors) == ((0.69, 0.82, 0.57, 0.88), (0.05, 0.04, 0.11, 0.02))
    assert _row(_of("CLAM", "3"), "ST-CLAM").values == (7, 8.5, 8, 4)


@pytest.mark.skipif(not SEEDS.is_dir(), reason="the papers' texts are not here")
@pytest.mark.parametrize("table", all_published(), ids=lambda t: f"{t.paper}-{t.table}-{t.benchmark}")
def test_every_row_is_a_line_of_the_paper(table):
    """Of each row all numbers, in order, stand in one line of the text (of two tables side by side: within one)."""
    (path,) = SEEDS.glob(FILES[table.paper] + "*.txt")
    lines = [_numbers(line) for line in path.read_text().splitlines()]
    for row in table.rows:
        numbers: list[float] = []
        for index, value in enumerate(row.values):
            numbers += [] if value is None else [value]
            numbers += [row.errors[index]] if row.errors else []
        mean_elsewhere = (table.paper, row.method) == ("LatBot", "Ours") and table.table in ("1", "2") and row.note
        numbers += [] if row.mean is None or mean_elsewhere else [row.mean]
        assert any(_within(numbers, line) for line in lines), (row.method, numbers)


@pytest.mark.skipif(not SEEDS.is_dir(), reason="the papers' texts are not here")
@pytest.mark.parametrize("paper", FILES)
def test_methods_are_named_as_in_the_paper(paper):
    (path,) = SEEDS.glob(FILES[paper] + "*.txt")
    text = path.read_text().replace("$\\pi_{0.5}$", "π0.5").replace("π_0", "π0").replace("LAP0", "LAPO")
    for table in all_published():
        if table.paper == paper and table.table != "Fig. S.3":
            for row in table.rows:
                name = LOST.get(row.method, row.method)
                name = "" if paper == "LARA" and name == "π0.5" else re.sub(r" \((UAD|DLA).*", "", name)
                assert name in text, row.method


def _numbers(line: str) -> list[float]:
    line = re.sub(r"\[\d+\]|\([^)]*\)|π_0|\\pi_\{0\.5\}|GR00T-N1\.6|0-FAST|10/10|/10", " ", line)
    return [float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", line)]


def _within(numbers: list[float], line: list[float]) -> bool:
    return any(line[i : i + len(numbers)] == numbers for i in range(len(line) - len(numbers) + 1))


def test_printed_means_that_are_not_the_mean_are_marked():
    odd = {(t.paper, t.table, r.method) for t in all_published() for r in t.rows if t.odd_mean(r)}
    assert ("LARA", "1", "SpatialVLA") in odd  # 88.0, 72.7, 41.8 printed with 70.7
    assert ("CLAM", "5", "BC-Expert") in odd  # 1.00, 0.94, 0.91, 0.93 printed with 0.87
    assert ("LatBot", "2", "Ours") in odd
    assert ("LatBot", "3", "Ours") not in odd
    assert len(odd) == 16


def test_percent_keeps_the_printed_digits():
    assert _of("LatBot", "3").percent(98.0) == "98.0"
    assert _of("CLAM", "2").percent(0.57) == "57"
    assert _of("CLAM", "3").percent(8.5) == "85"
    assert _of("LatBot", "4").percent(60) == "60"


def test_which_tables_stand_beside_which():
    google = {"pick_coke_can", "move_near", "drawer", "apple"}
    assert [(t.paper, t.table) for t in published_tables("simpler_google/visual_matching", google)] == [
        ("LARA", "1"), ("LARA", "3"), ("LatBot", "1"),
    ]  # fmt: skip
    widowx = {"spoon", "carrot", "stack", "eggplant"}
    assert [t.table for t in published_tables("simpler_widowx/visual_matching", widowx)] == ["2", "5"]
    assert published_tables("metaworld", {"drawer-open", "assembly"}) == []  # one column in common is no table
    clam = {"assembly", "bin-picking", "peg-insert-side", "shelf-place"}
    assert len(published_tables("metaworld_mt10", clam | {"drawer-open"})) == 4
    assert published_tables("metaworld_mt50", clam | {f"t{i}" for i in range(5)}) == []  # less than half of ours
    assert published_tables("locomotion", {"halfcheetah", "hopper"}) == []  # returns are no success
