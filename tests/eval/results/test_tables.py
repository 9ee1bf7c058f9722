"""Tables' numbers from rows whose outcome is known."""

import math

import numpy as np
import pytest
from scipy import stats

from eval.intervals import Rate, mean_of, wilson_interval
from eval.results.row import protocol_digest
from eval.results.tables import tables_of

FOUR = ("libero_goal", "libero_object", "libero_spatial", "libero_10")


def _of_suite(played, suite, successes, trials, **changes):
    protocol = {"name": "openpi", "execute": 5, "suite": suite, "max_steps": len(suite)} | changes.pop("protocol", {})
    outcomes = [True] * successes + [False] * (trials - successes)
    return played(outcomes, suite=suite, protocol_json=protocol, protocol_hash=protocol_digest(protocol), **changes)


def _four(played, counts, **changes):
    pairs = zip(FOUR, counts, strict=True)
    return [p for suite, count in pairs for p in _of_suite(played, suite, count, 10, **changes)]


def test_wilson_against_scipys():
    for successes, trials in ((15, 20), (0, 10), (50, 50), (1, 3), (499, 500)):
        expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
        assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_solves_its_own_equation():
    for successes, trials in ((1, 7), (36, 50), (499, 500)):
        for end in wilson_interval(successes, trials):
            z = abs(successes / trials - end) / math.sqrt(end * (1 - end) / trials)
            assert z == pytest.approx(1.959964, abs=1e-5)


def test_liberos_four_suites_and_their_mean(played):
    (table,) = tables_of(_four(played, (9, 8, 7, 2)))
    assert [c.title for c in table.benchmark.columns] == [
        "LIBERO-Goal", "LIBERO-Object", "LIBERO-Spatial", "LIBERO-Long"
    ]  # fmt: skip
    (line,) = table.lines
    assert line.rates == (Rate(9, 10, 500), Rate(8, 10, 500), Rate(7, 10, 500), Rate(2, 10, 500))
    assert line.mean is not None
    assert line.mean.mean == pytest.approx(0.65)
    assert line.mean.trials == 40
    assert table.terms == {
        "protocol": "openpi",
        "assets": "official",
        "reading": "any (solved at any step)",
        "episodes": "40",
        "actions at most": "220",
        "executed of a chunk": "5",
        "protocol hash": ", ".join(sorted({p.row.protocol_hash[:12] for p in table.episodes})),
    }


def test_the_mean_counts_columns_alike():
    mean = mean_of([Rate(9, 10), Rate(10, 40)])
    assert mean.mean == pytest.approx((0.9 + 0.25) / 2)
    assert mean.trials == 50
    assert mean.interval == pytest.approx(wilson_interval(0.575 * 32, 32))  # 2^2 / (1/10 + 1/40)
    assert mean_of([Rate(36, 50)]).interval == pytest.approx(wilson_interval(36, 50))
    assert mean_of([Rate(9, 10), Rate(3, 10)]).interval == pytest.approx(wilson_interval(12, 20))
    assert mean_of([Rate(3, 3), Rate(7, 7), Rate(11, 11)]).interval[1] == 1.0


@pytest.mark.parametrize(("shares", "trials"), [((0.9, 0.5, 0.3, 0.7), (30, 12, 20, 9)), ((0.97,) * 4, (50,) * 4)])
def test_the_means_interval_holds_the_true_mean_as_often_as_it_says(shares, trials):
    draw = np.random.default_rng(0)
    true = np.mean(shares)
    hits = 0
    for _ in range(2000):
        drawn = draw.binomial(trials, shares)
        low, high = mean_of([Rate(int(s), n) for s, n in zip(drawn, trials, strict=True)]).interval
        hits += low <= true <= high
    assert 0.935 <= hits / 2000 <= 0.99


def test_no_mean_where_a_column_is_missing(played):
    (table,) = tables_of(_of_suite(played, "libero_goal", 5, 10) + _of_suite(played, "libero_10", 5, 10))
    (line,) = table.lines
    assert [r and r.successes for r in line.rates] == [5, None, None, 5]
    assert line.mean is None
    assert line.no_mean == "no mean: LIBERO-Object, LIBERO-Spatial not played"


def test_no_mean_over_checkpoints_or_protocols(played):
    rows = _four(played, (5, 5, 5, 5))
    other = [*rows[:30], *_of_suite(played, "libero_10", 5, 10, checkpoint="cd" * 32)]
    assert tables_of(other)[0].lines[0].no_mean == (
        "no mean: libero_goal and libero_10 were played by different checkpoints"
    )
    other = [*rows[:30], *_of_suite(played, "libero_10", 5, 10, protocol={"execute": 8})]
    assert tables_of(other)[0].lines[0].no_mean == "no mean: execute is 5 in libero_goal and 8 in libero_10"


def test_libero_90_stands_apart_from_the_mean(played):
    (table,) = tables_of(_four(played, (9, 8, 7, 2)) + _of_suite(played, "libero_90", 0, 10))
    assert table.benchmark.columns[-1].title == "LIBERO-90"
    assert table.lines[0].rates[-1] == Rate(0, 10, 4500)
    assert table.lines[0].mean is not None
    assert table.lines[0].mean.mean == pytest.approx(0.65)


def test_assets_and_protocols_have_tables_of_their_own(played):
    rows = _four(played, (9, 8, 7, 2)) + _four(played, (1, 1, 1, 1), policy="scratch", assets="stand-in")
    rows += _four(played, (2, 2, 2, 2), policy="bc", protocol={"execute": 8})
    rows += _four(played, (3, 3, 3, 3), policy="pca")
    tables = tables_of(rows)
    assert [(t.assets, [line.contestant for line in t.lines]) for t in tables] == [
        ("official", ["distilled", "pca"]), ("official", ["bc"]), ("stand-in", ["scratch"]),
    ]  # fmt: skip


def test_stand_ins_never_stand_beside_published_rows(played):
    official, stand_in = tables_of(_four(played, (9, 8, 7, 2)) + _four(played, (1,) * 4, policy="b", assets="stand-in"))
    assert {t.paper for t in official.published} == {"LatBot", "LARA"}
    assert official.no_published == ""
    assert stand_in.published == ()
    assert "stand-in assets" in stand_in.no_published


def test_training_seeds_are_one_line_and_other_labels_another(played):
    rows = _of_suite(played, "libero_10", 5, 10, labels={"train_seed": 0, "demos": 2})
    rows += _of_suite(played, "libero_10", 9, 10, labels={"train_seed": 1, "demos": 2}, checkpoint="cd" * 32)
    rows += _of_suite(played, "libero_10", 1, 10, labels={"train_seed": 0, "demos": 5}, checkpoint="ef" * 32)
    (table,) = tables_of(rows)
    assert [(line.contestant, line.rates[3]) for line in table.lines] == [
        ("distilled (demos 2)", Rate(14, 20, 1000)), ("distilled (demos 5)", Rate(1, 10, 500)),
    ]  # fmt: skip


def test_references_stand_last(played):
    rows = [p for name in ("random", "expert", "ours") for p in _of_suite(played, "libero_10", 1, 2, policy=name)]
    assert [line.contestant for line in tables_of(rows)[0].lines] == ["ours", "random", "expert"]


def test_the_quoted_reading_counts(played):
    rows = [p for p in _of_suite(played, "libero_10", 10, 10, quoted="final")]
    (table,) = tables_of(rows)
    assert table.lines[0].rates[3] == Rate(0, 10, 500)  # success_final is False in every row
    assert table.terms["reading"] == "final (solved at the last step)"


def test_simplers_google_robot_in_latbots_columns(played):
    rows = []
    tasks = ("pick_coke_can", "move_near", "open_top_drawer", "close_middle_drawer", "place_apple_in_top_drawer")
    for task, successes in zip(tasks, (4, 3, 2, 1, 0), strict=True):
        for grid in ("visual_matching/urdf_default", "variant_aggregation/base"):
            outcomes = [True] * successes + [False] * (4 - successes)
            rows += played(outcomes, suite="simpler_google", task=task, setting=grid)
    matching, aggregation = tables_of(rows)
    assert matching.benchmark.title == "SIMPLER Google robot (visual matching)"
    assert aggregation.benchmark.title == "SIMPLER Google robot (variant aggregation)"
    expected = [Rate(4, 4, 300), Rate(3, 4, 240), Rate(3, 8, 216), Rate(0, 4, 108)]
    assert list(matching.lines[0].rates) == expected
    assert [r and r.whole for r in aggregation.lines[0].rates] == [675, 480, 378, 189]
    assert matching.lines[0].mean is not None
    assert matching.lines[0].mean.mean == pytest.approx((1 + 0.75 + 0.375 + 0) / 4)
    assert [(t.paper, t.table, len(t.rows)) for t in aggregation.published] == [
        ("LARA", "1", 12), ("LARA", "3", 2), ("LatBot", "1", 7),
    ]  # fmt: skip


def test_repeats_do_not_make_a_part_the_whole(played):
    cell = {"suite": "simpler_widowx", "task": "put_spoon_on_towel", "setting": "visual_matching"}
    half_thrice = [p for seed in range(3) for p in played([True] * 12, policy_seed=seed, **cell)]
    (table,) = tables_of(half_thrice)
    assert table.lines[0].rates[0] == Rate(36, 36, 72)


def test_simplers_columns_hold_every_task_of_its_suites(row):
    """A task that no column held would be counted nowhere."""
    from eval.results.benchmarks import benchmark_of
    from eval.simpler import google, widowx

    for robot, names in (("google", google.TASKS), ("widowx", widowx.TASKS)):
        columns = benchmark_of(f"simpler_{robot}/visual_matching", []).columns
        for name in names:
            held = [c.key for c in columns if c.holds(row(suite=f"simpler_{robot}", task=name))]
            assert len(held) == 1, (name, held)


def test_meta_world_has_a_column_for_each_of_few_tasks_and_clams_rows_beside_its_four(played):
    clam = ("assembly-v3", "bin-picking-v3", "peg-insert-side-v3", "shelf-place-v3")
    rows = [p for t in clam for p in played([True, False], suite="metaworld_clam", task=t, assets="own")]
    (table,) = tables_of(rows)
    assert [c.key for c in table.benchmark.columns] == ["assembly", "bin-picking", "peg-insert-side", "shelf-place"]
    assert table.benchmark.title == "Meta-World CLAM"
    assert table.lines[0].mean is not None
    assert table.lines[0].mean.mean == 0.5
    assert [(t.paper, t.table) for t in table.published] == [("CLAM", n) for n in ("2", "4", "5", "6")]
    many = [p for i in range(11) for p in played([True], suite="metaworld", task=f"t{i}", assets="own")]
    (table,) = tables_of(many)
    assert [c.title for c in table.benchmark.columns] == ["All 11 tasks"]
    assert table.published == ()
