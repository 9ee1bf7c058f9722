"""Folders and files read, shards merged, nothing counted twice, disagreement refused."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.results.reading import Played, merge, read_results
from eval.results.row import write_parquet


def test_shards_in_folders_and_files_make_one(tmp_path, row, write):
    write(tmp_path / "run/shard-0", [row(init=0), row(init=2)])
    write(tmp_path / "run/shard-1", [row(init=1)])
    write_parquet([row(init=0), row(init=2)], tmp_path / "run/shard-0/results.parquet")  # the same rows once more
    write_parquet([row(init=3)], tmp_path / "results.parquet")
    results = read_results([tmp_path / "run", tmp_path / "results.parquet"])
    assert [p.row.init for p in results.episodes] == [0, 1, 2, 3]
    assert results.notes == ()
    assert results.episodes[1].file == tmp_path / "run/shard-1/episodes.jsonl"
    assert results.episodes[1].video == tmp_path / "run/shard-1/videos/bowl-3.mp4"


def test_the_same_episode_twice_counts_once(tmp_path, row, write):
    first = write(tmp_path / "a", [row(init=0), row(init=1)])
    second = write(tmp_path / "b", [row(init=1, seconds=99.0, latency_p50_ms=7.0), row(init=2)])
    results = read_results([first, second, first])
    assert [p.row.init for p in results.episodes] == [0, 1, 2]
    assert results.episodes[1].row.seconds == 9.5
    assert results.notes == ("1 row repeated an episode that was there already; each episode counts once.",)


@pytest.mark.parametrize("change", [{"success_any": False}, {"steps": 81}, {"success_final": True}])
def test_two_stories_of_one_episode_are_refused_naming_both_files(tmp_path, row, write, change):
    first, second = write(tmp_path / "a", [row()]), write(tmp_path / "b", [row(**change)])
    name = next(iter(change))
    with pytest.raises(ValueError, match=name) as caught:
        read_results([first, second])
    assert "libero_spatial/bowl/3 of distilled (demos 5) was played twice" in str(caught.value)
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"policy": "scratch"}, {"checkpoint": "cd" * 32}, {"seed": 8}, {"policy_seed": 12}, {"init": 4},
        {"labels": {"train_seed": 1, "demos": 5}}, {"setting": "visual_matching/urdf"}, {"assets": "own"},
    ],
)  # fmt: skip
def test_what_makes_two_episodes(row, tmp_path, change):
    rows = [Played(row(), tmp_path / "a"), Played(row(success_any=False, success_first=False, **change), tmp_path)]
    assert len(merge(rows).episodes) == 2


def test_error_rows_are_counted_apart_and_give_way(tmp_path, row, write):
    failed = {"error": "the simulator died 3 times\ntraceback", "success_any": False, "success_first": False}
    first = write(tmp_path / "a", [row(init=0, **failed), row(init=1, **failed)])
    second = write(tmp_path / "b", [row(init=0), row(init=0, **failed)])
    results = read_results([first, second])
    assert [(p.row.init, p.row.success_any) for p in results.episodes] == [(0, True)]
    assert [p.row.init for p in results.errors] == [1]
    assert results.notes == (
        "1 row said that an episode could not be played which was played later.",
        "1 row could not be played and are counted nowhere: libero_spatial/bowl/1 (the simulator died 3 times).",
    )


def test_a_torn_last_line_is_not_counted(tmp_path, row, write):
    folder = write(tmp_path / "a", [row(init=0), row(init=1)], end="")
    results = read_results([folder])
    assert [p.row.init for p in results.episodes] == [0]
    assert "the last line was cut off" in results.notes[0]


def test_a_damaged_line_in_the_middle_is_named(tmp_path, row, write):
    folder = write(tmp_path / "a", [row(init=0), row(init=1)])
    lines = (folder / "episodes.jsonl").read_text().splitlines()
    (folder / "episodes.jsonl").write_text("\n".join([lines[0], lines[1][:40], lines[1], ""]))
    with pytest.raises(ValueError, match=r"episodes.jsonl, line 2: "):
        read_results([folder])
    (folder / "episodes.jsonl").write_text(lines[0] + "\n[1]\n")
    with pytest.raises(ValueError, match=r"line 2: holds \[1\], not an object"):
        read_results([folder])


def test_episodes_stand_in_one_order_whichever_ended_first(tmp_path, row, write):
    there = write(tmp_path / "a", [row(task="b", init=1), row(task="b", init=0), row(task="a", init=2)])
    before = write(tmp_path / "z", [row(policy="other", task="c", init=0)])
    results = read_results([before, there])
    assert [(p.row.policy, p.row.task, p.row.init) for p in results.episodes] == [
        ("other", "c", 0), ("distilled", "a", 2), ("distilled", "b", 0), ("distilled", "b", 1),
    ]  # fmt: skip


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"holds no episodes.jsonl and no results.parquet"):
        read_results([tmp_path])
    with pytest.raises(ValueError, match="no such file or folder"):
        read_results([tmp_path / "absent"])
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(ValueError, match=r"neither .parquet nor .jsonl"):
        read_results([tmp_path / "a.csv"])


def test_hostile_rows_are_refused_by_name_or_counted(tmp_path, row, write):
    nameless = write(tmp_path / "a", [row(error=""), row(init=4)])
    results = read_results([nameless])
    assert (len(results.episodes), len(results.errors)) == (1, 1)
    assert "no reason given" in results.notes[-1]
    deep = tmp_path / "deep.jsonl"
    deep.write_text('{"readings": ' + '{"a":' * 100_000 + "1" + "}" * 100_001 + "\n")
    with pytest.raises(ValueError, match=r"deep\.jsonl, line 1: "):
        read_results([deep])
    path = tmp_path / "b.parquet"
    write_parquet([row()], path)
    table = pq.read_table(path)
    place = table.schema.get_field_index("protocol_hash")
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(["0" * 64])), path)
    with pytest.raises(ValueError, match=r"b\.parquet: protocol_hash: .* the row was edited"):
        read_results([path])
