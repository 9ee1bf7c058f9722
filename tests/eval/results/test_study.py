"""Methods trained several times: cells over seeds, averages, tests by seed, what is refused, and what is written."""

import csv
import io
import json
import math
from collections.abc import Sequence

import pytest
from scipy.stats import ttest_rel

from eval.intervals import wilson_interval
from eval.report.study_page import study_page
from eval.report.study_plot import picture
from eval.results.published import published_table
from eval.results.reading import Played
from eval.results.row import protocol_digest
from eval.results.seed_tests import paired, seed_tests
from eval.results.study import AVERAGE, Cell, study_of
from eval.results.study_written import Beside, Written, as_csv, as_json, as_markdown
from tests.eval.results.conftest import MakePlayed

RATES = {
    ("ours", "assembly-v3"): [8, 9, 10],
    ("ours", "shelf-place-v3"): [5, 5, 8],
    ("theirs", "assembly-v3"): [1, 2, 0],
    ("theirs", "shelf-place-v3"): [0, 0, 0],
}


def _outcomes(solved: int, of: int = 10) -> list[bool]:
    return [True] * solved + [False] * (of - solved)


def _of(made: MakePlayed, method: str, task: str, counts: Sequence[int], **changes: object) -> list[Played]:
    labels = changes.pop("labels", {})
    assert isinstance(labels, dict)
    return [
        one
        for seed, solved in enumerate(counts)
        for one in made(
            _outcomes(solved), suite="metaworld", task=task, policy=method, checkpoint=f"{method}{task}{seed}",
            labels={"train_seed": seed, **labels}, **changes,
        )
    ]  # fmt: skip


@pytest.fixture
def episodes(played: MakePlayed) -> list[Played]:
    return [one for (method, task), counts in RATES.items() for one in _of(played, method, task, counts)]


METHODS = {"ours": "TF-CLAM", "theirs": "VPT"}


def test_a_cell_is_the_mean_and_standard_error_over_trainings(episodes: list[Played]) -> None:
    study = study_of(episodes, METHODS)
    cell = study.cell("ours", "assembly")
    assert cell is not None
    assert cell.by_seed == {0: 0.8, 1: 0.9, 2: 1.0}
    assert cell.mean == pytest.approx(0.9)
    assert cell.error == pytest.approx(0.1 / math.sqrt(3))  # not the 0.055 of 30 episodes counted alike
    assert (study.seeds, study.rollouts, study.shown) == ([3], [10], ("assembly", "shelf-place", AVERAGE))


def test_the_average_is_taken_seed_by_seed(episodes: list[Played]) -> None:
    """Its error is that of the seeds' averages: .65, .7, .9."""
    cell = study_of(episodes, METHODS).cell("ours", AVERAGE)
    assert cell is not None
    assert cell.by_seed == pytest.approx({0: 0.65, 1: 0.7, 2: 0.9})
    assert cell.error == pytest.approx(0.1322876 / math.sqrt(3), rel=1e-5)


def test_there_is_no_average_without_a_column_or_a_seed(episodes: list[Played]) -> None:
    lacking = [p for p in episodes if (p.row.policy, p.row.task, p.train_seed) != ("ours", "assembly-v3", 2)]
    assert study_of(lacking, METHODS).cell("ours", AVERAGE) is None
    alone = [p for p in episodes if (p.row.policy, p.row.task) != ("theirs", "shelf-place-v3")]
    assert study_of(alone, METHODS).cell("theirs", AVERAGE) is None


def test_one_training_has_the_interval_of_its_rollouts(episodes: list[Played]) -> None:
    study = study_of([p for p in episodes if p.train_seed == 0], METHODS)
    cell, average = study.cell("ours", "assembly"), study.cell("ours", AVERAGE)
    assert cell is not None
    assert average is not None
    assert (cell.error, cell.interval) == (None, wilson_interval(8, 10))
    assert average.interval == pytest.approx(wilson_interval(13, 20))


def test_a_reading_is_averaged_in_the_place_of_success(played: MakePlayed) -> None:
    rows = [
        one
        for seed, value in enumerate((0.5, 0.7))
        for one in played([False] * 2, suite="locomotion", task="hopper", policy="ours", labels={"train_seed": seed},
                          readings={"normalised_return": value}, checkpoint=str(seed))
    ]  # fmt: skip
    cell = study_of(rows, METHODS, "normalised_return").cell("ours", "hopper")
    assert cell is not None
    assert (cell.mean, cell.error, cell.alone) == (pytest.approx(0.6), pytest.approx(0.1), None)


def test_columns_come_in_the_papers_order(episodes: list[Played]) -> None:
    assert study_of(episodes, METHODS, order=["shelf-place", "elsewhere"]).columns == ("shelf-place", "assembly")


def test_a_sweep_is_a_label_and_what_lacks_it_is_level(played: MakePlayed) -> None:
    rows = _of(played, "theirs", "assembly-v3", [3, 5])
    for labelled, counts in ((50, [4, 6]), (5, [1, 1])):
        rows += [
            p for s, n in enumerate(counts)
            for p in played(_outcomes(n), suite="metaworld", task="assembly-v3", policy="ours",
                            checkpoint=f"{labelled}{s}", labels={"train_seed": s, "labelled": labelled})
        ]  # fmt: skip
    study = study_of(rows, METHODS, sweep="labelled")
    assert study.settings == (5, 50)
    means = {s: cell.mean for s in (5, 50, None) if (cell := study.cell("ours", "assembly", s))}
    assert means == {5: pytest.approx(0.1), 50: pytest.approx(0.5)}
    level = study.cell("theirs", "assembly", None)
    assert level is not None
    assert level.mean == pytest.approx(0.4)
    with pytest.raises(ValueError, match=r"ours on assembly-v3: episodes labelled .*'labelled': 50.* would be"):
        study_of(rows, METHODS)


def test_what_is_not_one_measurement_is_refused(played: MakePlayed) -> None:
    other = {"name": "openpi", "execute": 8, "image_size": [256, 256], "past_success": None}
    unequal = _of(played, "theirs", "assembly-v3", [1], protocol_json=other, protocol_hash=protocol_digest(other))
    with pytest.raises(ValueError, match=r"protocol.execute is 5 in .* and 8 in .*do not stand in one column"):
        study_of(_of(played, "ours", "assembly-v3", [1]) + unequal, METHODS)
    with pytest.raises(ValueError, match="no episode of ours, theirs was played; there are episodes of: expert"):
        study_of(_of(played, "expert", "assembly-v3", [1]), METHODS)
    elsewhere = played([True], suite="libero_goal", policy="theirs")
    with pytest.raises(ValueError, match="episodes of libero and metaworld do not make one table"):
        study_of(_of(played, "ours", "assembly-v3", [1]) + elsewhere, METHODS)


def test_the_test_by_seed_is_the_paired_t_test() -> None:
    one, other = (Cell(dict(enumerate(v)), dict.fromkeys(range(5), 50)) for v in
                  ([0.9, 0.8, 0.94, 0.86, 0.9], [0.7, 0.72, 0.6, 0.75, 0.88]))  # fmt: skip
    found = paired(one, other)
    assert found is not None
    difference, low, high, p, seeds = found
    reference = ttest_rel(list(one.by_seed.values()), list(other.by_seed.values()))
    assert p == pytest.approx(reference.pvalue)
    assert (low, high) == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert (difference, seeds) == (pytest.approx(0.15), 5)


def test_only_equal_seeds_are_paired_and_two_are_needed() -> None:
    one, other = Cell({0: 0.5, 1: 0.5, 2: 0.5}, {}), Cell({1: 0.1, 2: 0.2, 7: 1.0}, {})
    assert paired(one, other) is not None
    assert paired(one, other)[4] == 2  # type: ignore[index]
    assert paired(one, Cell({2: 0.5, None: 0.1}, {})) is None
    assert paired(one, Cell({0: 0.3, 1: 0.3}, {})) == (
        pytest.approx(0.2),
        pytest.approx(0.2),
        pytest.approx(0.2),
        None,
        2,
    )


def test_pairs_are_tested_where_their_intervals_are_apart(played: MakePlayed) -> None:
    rows = [p for (m, t), n in RATES.items() for p in _of(played, m, t, n)]
    rows += _of(played, "like ours", "assembly-v3", [8, 10, 9])
    tests = seed_tests(study_of(rows, {**METHODS, "like ours": "x"}))
    pairs = {(t.first, t.second, t.column) for t in tests}
    assert ("ours", "theirs", "assembly") in pairs
    assert ("ours", "like ours", "assembly") not in pairs


@pytest.fixture
def written(episodes: list[Played]) -> Written:
    table = published_table("CLAM", "5")
    study = study_of(episodes, METHODS, order=table.columns)
    return Written("Table | 5", study, (Beside(table),), METHODS, "", ("A <note>.",))


def test_markdown_has_ours_the_papers_and_the_difference(written: Written) -> None:
    text = as_markdown(written)
    assert "| TF-CLAM | 90.0 ± 5.8 | 60.0 ± 10.0 | 75.0 ± 7.6 |" in text
    assert "| – paper | 91 ± 3 | 93 ± 2 | 83\\* |" in text
    assert "| – difference | -1.0 | -33.0 | -8.0 |" in text
    assert "# Table \\| 5" in text
    assert "3 training seeds x 10 rollouts" in text
    assert "assembly: TF-CLAM minus VPT +80.0" in text
    assert "at most 100 steps of action repeat 2" in text
    assert "A \\<note\\>." in text


def test_csv_and_json_hold_every_cell(written: Written) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(written))))
    assert len(rows) == 6
    first = rows[0]
    assert (first["method"], first["column"], first["percent"], first["seeds"], first["episodes"]) == (
        "ours", "assembly", "90.000", "3", "30",
    )  # fmt: skip
    assert (first["paper_percent"], first["paper_error"], first["difference"]) == ("91.000", "3.000", "-1.000")
    content = json.loads(as_json(written))
    cell = next(c for c in content["cells"] if (c["method"], c["column"]) == ("theirs", "assembly"))
    assert cell["by_seed"] == {"0": 0.1, "1": 0.2, "2": 0.0}
    assert cell["paper"] == {"mean": 0.40, "error": 0.08}
    assert {t["column"] for t in content["tests"]} == {"assembly", "shelf-place", "average"}


def test_the_page_is_whole_and_safe(written: Written) -> None:
    png = picture(written)
    assert png.startswith(b"\x89PNG")
    page = study_page(written, png)
    for words in ("90.0 ± 5.8", "paper 91 ± 3", "A &lt;note&gt;.", "by seed: 0: 80.0, 1: 90.0, 2: 100.0; 30 episodes"):
        assert words in page
    assert page == study_page(written, picture(written))
