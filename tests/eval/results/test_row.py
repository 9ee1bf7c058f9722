"""Rows: exact schema, both forms and back, and what is refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.results.row import SCHEMA, EpisodeRow, protocol_digest, read_parquet, write_parquet
from eval.suite import Case


def test_schema_is_exactly_this():
    names = (
        "suite task setting init seed policy_seed success_any success_final success_first quoted readings steps "
        "max_steps execute latency_p50_ms latency_p95_ms latency_p99_ms calls seconds video versions assets "
        "checkpoint policy protocol protocol_hash protocol_json labels restarts error"
    )
    assert names.split() == SCHEMA.names
    assert SCHEMA.field("success_final") == pa.field("success_final", pa.bool_(), nullable=False)
    assert SCHEMA.field("latency_p99_ms") == pa.field("latency_p99_ms", pa.float64(), nullable=True)
    assert SCHEMA.field("protocol_json").type == pa.string()
    assert {f.name for f in SCHEMA if f.nullable} == {
        *("policy_seed", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "video", "error")
    }


def test_parquet_and_json_lines_give_the_same_row_back(row, tmp_path):
    rows = [row(), row(init=4, policy_seed=None, latency_p50_ms=None, video=None, error="died three times")]
    write_parquet(rows, tmp_path / "results.parquet")
    assert pq.read_schema(tmp_path / "results.parquet").remove_metadata().equals(SCHEMA)
    assert read_parquet(tmp_path / "results.parquet") == rows
    assert [EpisodeRow.from_json(json.loads(json.dumps(r.to_json()))) for r in rows] == rows
    assert list(tmp_path.iterdir()) == [tmp_path / "results.parquet"]


def test_no_rows_is_a_file_too(tmp_path):
    write_parquet([], tmp_path / "results.parquet")
    assert read_parquet(tmp_path / "results.parquet") == []


def test_quoted_reading_and_case_key(row):
    assert row().success
    assert not row(quoted="final").success
    assert row().case == Case("libero_spatial", "bowl", 3, 7, 220).key == "libero_spatial/bowl/3"
    case = Case("simpler", "coke", 2, 0, 80, setting="visual_matching/urdf_alt")
    assert row(suite="simpler", task="coke", setting=case.setting, init=2).case == case.key


def test_equal_protocols_have_one_digest():
    assert protocol_digest({"a": 1, "b": [2, None]}) == protocol_digest({"b": [2, None], "a": 1})
    assert protocol_digest({"a": 1}) != protocol_digest({"a": 2})
    assert protocol_digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"assets": "mine"}, "assets: 'mine' is none of official, stand-in, own"),
        ({"quoted": "first"}, "quoted: 'first' is none of any, final"),
        ({"protocol_hash": "00"}, "protocol_hash: '00' is not that of protocol_json"),
    ],
)
def test_impossible_rows_are_refused(row, changes, words):
    with pytest.raises(ValueError, match=words):
        row(**changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"success_any": 1}, "success_any: 1 is no bool"),
        ({"init": True}, "init: True is no int64"),
        ({"steps": None}, "steps: None is no int64"),
        ({"labels": "x"}, "labels: 'x' is no object"),
        ({"success": True}, "success: this column is unknown"),
    ],
)
def test_json_of_other_types_is_refused(row, change, words):
    with pytest.raises(ValueError, match=words):
        EpisodeRow.from_json(row().to_json() | change)


def test_json_without_a_column_is_refused(row):
    columns = row().to_json()
    del columns["restarts"]
    with pytest.raises(ValueError, match="restarts: this column is missing"):
        EpisodeRow.from_json(columns)


def test_other_parquet_files_are_refused(tmp_path):
    path = tmp_path / "results.parquet"
    path.write_bytes(b"PAR1 torn")
    with pytest.raises(ValueError, match="not a Parquet file"):
        read_parquet(path)
    pq.write_table(pa.table({"suite": ["a"]}), path)
    with pytest.raises(ValueError, match="assets is not as in episode rows"):
        read_parquet(path)
