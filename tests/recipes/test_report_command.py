"""`vla report` over results, from the command line."""

import csv
import io
import json
from pathlib import Path

import pytest

from eval.results.row import EpisodeRow, protocol_digest
from recipes.cli import main

TASKS = ("put_spoon_on_towel", "put_carrot_on_plate", "stack_green_block_on_yellow_block", "put_eggplant_in_basket")


def _write(folder: Path, policy: str, solved: int, assets: str = "official") -> Path:
    """Six episodes of each WidowX task, the first `solved` solved."""
    protocol = {"name": "octo", "execute": 1, "quoted": "final"}
    folder.mkdir(parents=True)
    with (folder / "episodes.jsonl").open("w") as file:
        for task in TASKS:
            for init in range(6):
                row = EpisodeRow(
                    suite="simpler_widowx", task=task, setting="visual_matching", init=init, seed=init,
                    success_any=True, success_final=init < solved, success_first=True, quoted="final", steps=60,
                    max_steps=60, execute=1, policy=policy, assets=assets, protocol="octo",
                    protocol_hash=protocol_digest(protocol), protocol_json=protocol, checkpoint=policy * 8,
                )  # fmt: skip
                file.write(json.dumps(row.to_json()) + "\n")
    return folder


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    return [str(_write(tmp_path / "a", "ours", 3)), str(_write(tmp_path / "b", "scratch", 0))]


def test_a_page_and_tables_on_the_terminal(two, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["report", *two, "--out", str(tmp_path / "out/page.html")]) == 0
    said = capsys.readouterr().out
    assert "SIMPLER WidowX robot (visual matching)" in said
    assert "protocol: octo; assets: official; reading: final (solved at the last step); episodes: 48" in said
    assert "3/6 of 24" in said
    assert "[18.8, 81.2]" in said
    assert "published: LatBot, table 2" in said
    assert "MemoryVLA" in said
    assert "ours minus scratch: +50.0 [" in said
    assert "both 0, only the first 12, only the second 0, neither 12; McNemar's exact p = < 0.001" in said
    assert said.endswith(f"{tmp_path}/out/page.html\n")
    assert (tmp_path / "out/page.html").read_text().startswith("<!DOCTYPE html>")


def test_a_single_folder_keeps_its_page(two, capsys):
    assert main(["report", two[0]]) == 0
    assert (Path(two[0]) / "report.html").is_file()


def test_markdown(two, capsys):
    assert main(["report", *two, "--format", "md"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "## SIMPLER WidowX robot (visual matching)"
    head = next(line for line in lines if line.startswith("| Policy"))
    assert head == (
        "| Policy | Put Spoon on Towel | Put Carrot on Plate | Stack Green Block on Yellow Block "
        "| Put Eggplant in Yellow Basket | Mean |"
    )
    ours = next(line for line in lines if line.startswith("| ours"))
    assert ours == "| ours |" + " 50.0 \\[18.8, 81.2\\] 3/6 of 24 |" * 4 + " 50.0 \\[31.4, 68.6\\] |"
    assert "| π0.5 (published: LatBot, table 2) | 79.2 | 58.3 | 16.7 | 66.7 | 55.2 |" in lines
    assert {line.count(" | ") for line in lines if line.startswith("| ")} == {5}


def test_csv(two, tmp_path):
    assert main(["report", *two, "--format", "csv", "--out", str(tmp_path / "t.csv")]) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text())))
    ours = [r for r in rows if r["source"] == "ours" and r["policy"] == "ours"]
    assert [r["column"] for r in ours] == ["spoon", "carrot", "stack", "eggplant", "mean"]
    assert (ours[0]["percent"], ours[0]["successes"], ours[0]["episodes"]) == ("50.000", "3", "6")
    assert {r["source"] for r in rows} == {"ours", "published: LatBot, table 2", "published: LatBot, table 5"}
    published = [r for r in rows if r["policy"] == "π0" and r["column"] == "mean"]
    assert [r["percent"] for r in published] == ["41.7"]
    assert all(r["successes"] == "" for r in published)


def test_json(two, capsys):
    assert main(["report", *two, "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    (table,) = content["tables"]
    assert table["benchmark"] == "simpler_widowx/visual_matching"
    assert table["ours"][0]["rates"]["stack"]["success"] == 0.5
    assert table["ours"][0]["mean"]["episodes"] == 24
    assert table["comparisons"][0]["only_first"] == 12
    assert table["comparisons"][0]["p"] == pytest.approx(2 / 2**12)
    assert table["protocols"] == {"simpler_widowx": {"name": "octo", "execute": 1, "quoted": "final"}}


def test_unequal_assets_are_refused(two, tmp_path, capsys):
    other = _write(tmp_path / "c", "ours", 1, assets="stand-in")
    assert main(["report", *two, str(other)]) == 2
    said = capsys.readouterr().err
    assert "ours on simpler_widowx: assets is 'official' in" in said
    assert "and 'stand-in' in" in said


def test_nothing_to_report_is_said(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no episodes.jsonl and no results.parquet" in capsys.readouterr().err
    (tmp_path / "episodes.jsonl").write_text("")
    assert main(["report", str(tmp_path)]) == 2
    assert "no episode was played; there is nothing to report" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--optim.lr", "1"]) == 2


def test_a_pipelines_report_is_a_page(tmp_path, capsys):
    (tmp_path / "pipeline.json").write_text('{"steps": []}')
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/report.html\n"
    assert main(["report", str(tmp_path), "--format", "csv"]) == 2
    assert "a pipeline's report is a page" in capsys.readouterr().err
