"""The page of benchmark results: its numbers, its words, its films, and that data cannot break out of it."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from eval.report.benchmark_page import write_benchmark_report
from eval.results.reading import Played, merge
from eval.results.row import EpisodeRow, protocol_digest
from eval.results.tables import tables_of

HOSTILE = """</script><script>alert(1)</script>"'><img src=x onerror=alert(1)><b>{0.__class__}{x}&amp;"""
SUITES = {"libero_goal": 8, "libero_object": 6, "libero_spatial": 10, "libero_10": 3}


class Page(HTMLParser):
    """Tags in order, and the text of every table's rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self._cell = False
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._cell:
            self.rows[-1][-1] = " ".join([self.rows[-1][-1], *data.split()]).strip()

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    def row(self, name: str) -> list[str]:
        return next(r for r in self.rows if r and r[0] == name)


def _row(suite: str, init: int, success: bool, policy: str = "ours", **changes) -> EpisodeRow:
    protocol = {"name": "openpi", "execute": 5, "suite": suite}
    columns: dict[str, Any] = dict(
        suite=suite, task=f"{suite} task", init=init, seed=7, success_any=success, success_final=success,
        success_first=success, quoted="any", steps=80, max_steps=220, execute=5, policy=policy, assets="official",
        protocol="openpi", protocol_hash=protocol_digest(protocol), protocol_json=protocol, seconds=30.0,
        latency_p50_ms=20.0, latency_p95_ms=31.0, latency_p99_ms=47.0, calls=16, checkpoint="ab" * 32,
        versions={"mujoco": "3.3.2"},
    )  # fmt: skip
    return EpisodeRow(**(columns | changes))


def _rows(policy: str = "ours", counts: dict[str, int] = SUITES, **changes) -> list[EpisodeRow]:
    return [_row(s, i, i < n, policy, **changes) for s, n in counts.items() for i in range(10)]


def _page(rows: list[EpisodeRow], folder: Path) -> Page:
    folder.mkdir(parents=True, exist_ok=True)
    results = merge(Played(row, folder / "episodes.jsonl") for row in rows)
    tables = tables_of(results.episodes)
    return Page(write_benchmark_report(results, tables, folder / "report.html").read_text())


def test_the_numbers_are_the_rows(tmp_path):
    page = _page(_rows(), tmp_path)
    assert page.row("ours")[1:] == [
        "80.0 [49.0, 94.3] 8/10 of 500",
        "60.0 [31.3, 83.2] 6/10 of 500",
        "100.0 [72.2, 100.0] 10/10 of 500",
        "30.0 [10.8, 60.3] 3/10 of 500",
        "67.5 [52.0, 79.9]",
    ]
    assert page.row("LARA (full) OXE-constrained")[1:] == ["88.5", "92.0", "88.0", "86.0", "88.6"]
    assert page.row("Ours (LatBot)")[1:] == ["98.6", "98.8", "99.0", "95.4", "98.0"]
    assert "published: LatBot, table 3 – LIBERO. 500 episodes a suite, 50 a task." in page.text
    assert "ours solves 67.5 % [52.0, 79.9] of 40 episodes" in page.text
    assert "protocol openpi" in page.text
    assert page.row("ours")[0] == "ours"
    assert page.row("libero_goal task")[1:] == ["80.0 [49.0, 94.3] 8/10"]


def test_speed_versions_weights_and_protocols(tmp_path):
    rows = _rows()
    rows[0] = _row("libero_goal", 0, True, versions={"mujoco": "3.3.4"})
    page = _page(rows, tmp_path)
    speed = [r for r in page.rows if r[:2] == ["ours", "libero_goal"]]
    assert speed == [["ours", "libero_goal", "20", "31", "47", "16", "30 s", "0"]]
    assert ["libero_goal", "mujoco", "3.3.4 (1 episode), 3.3.2 (9 episodes)"] in page.rows
    assert "libero_goal: mujoco differs between episodes" in page.text
    assert ["ours", "–", "ab" * 32, "40"] in page.rows
    assert f"libero_10: openpi, {rows[-1].protocol_hash}" in page.text


def test_policies_are_compared_on_shared_states(tmp_path):
    page = _page(_rows() + _rows("scratch", {**SUITES, "libero_spatial": 2}), tmp_path)
    (line,) = [r for r in page.rows if r[0] == "ours − scratch"]
    assert line[2:] == ["19", "8", "0", "13", "0.008"]
    assert line[1].startswith("+20.0 [")
    assert line[1].endswith("40 pairs")


def test_stand_ins_are_marked_and_alone(tmp_path):
    page = _page(_rows(assets="stand-in"), tmp_path)
    assert "LatBot" not in page.text
    assert "Published rows are left out: these episodes were played with stand-in assets" in page.text
    assert "these are no benchmark numbers" in page.text
    assert any(a.get("class") == "terms stand-in" for _, a in page.tags)


def test_what_could_not_be_played_is_said_and_not_counted(tmp_path):
    rows = _rows()
    rows[0] = _row("libero_goal", 0, False, error="the simulator died 3 times", restarts=3)
    page = _page(rows, tmp_path)
    assert page.row("ours")[1] == "77.8 [45.3, 93.7] 7/9 of 500"
    assert "Incomplete: 1 episode could not be played and are counted nowhere." in page.text
    assert ["ours", "libero_goal/libero_goal task/0", "3", "the simulator died 3 times"] in page.rows


def test_missing_suites_have_no_mean(tmp_path):
    page = _page(_rows(counts={"libero_goal": 5}), tmp_path)
    assert page.row("ours")[1:] == ["50.0 [23.7, 76.3] 5/10 of 500", "–", "–", "–", "–"]
    assert "ours: no mean: LIBERO-Object, LIBERO-Spatial, LIBERO-Long not played." in page.text
    assert "of 10 episodes (LIBERO-Goal only)" in page.text


def test_films_are_embedded_failures_first_and_linked_where_there_is_no_room(tmp_path, monkeypatch):
    (tmp_path / "videos").mkdir()
    rows = []
    for row in _rows():
        name = f"videos/{row.suite} {row.init}.mp4"
        (tmp_path / name).write_bytes(b"film" * 1000)
        rows.append(EpisodeRow(**{**row.to_json(), "video": name}))
    page = _page(rows, tmp_path)
    assert page.count("video") == 8
    shown = [a["class"] for t, a in page.tags if t == "figure"]
    assert shown == ["film no"] * 4 + ["film yes"] * 4
    monkeypatch.setattr("eval.report.document.LARGEST_PAGE", 20_000)
    page = _page(rows, tmp_path)
    assert page.count("video") == 0
    assert "8 films linked, not embedded" in page.text
    links = [a["href"] for t, a in page.tags if t == "a" and a["href"] and "videos/" in a["href"]]
    assert "videos/libero_10%203.mp4" in links
    assert len(links) == 8


def test_a_row_cannot_make_the_page_read_another_file(tmp_path):
    (tmp_path / "secret.mp4").write_bytes(b"secret" * 100)
    rows = [EpisodeRow(**{**row.to_json(), "video": "../secret.mp4"}) for row in _rows()]
    page = _page(rows, tmp_path / "run")
    assert page.count("video") == 0
    assert "secret" not in "".join(str(a) for t, a in page.tags if t == "a")


def test_hostile_text_stays_text(tmp_path):
    clean = _page(_rows(error=None), tmp_path / "clean")
    names = dict(policy=HOSTILE, task=HOSTILE, protocol=HOSTILE, versions={HOSTILE: HOSTILE}, checkpoint=HOSTILE)
    rows = [EpisodeRow(**{**row.to_json(), **names, "labels": {HOSTILE: HOSTILE}}) for row in _rows()]
    rows.append(EpisodeRow(**{**rows[0].to_json(), "init": 99, "error": HOSTILE}))
    page = _page(rows, tmp_path / "hostile")
    assert page.count("script") == clean.count("script") == 1
    assert page.count("img") == 0
    assert HOSTILE.split("<b>")[0] in page.text


def test_the_same_rows_give_the_same_bytes(tmp_path):
    rows = _rows() + _rows("scratch")
    _page(rows, tmp_path)
    first = (tmp_path / "report.html").read_bytes()
    _page(sorted(rows, key=lambda r: (r.policy, -r.init)), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == first


@pytest.mark.parametrize("outside", [r"https?://", r"@import", r"url\("])
def test_nothing_is_fetched(tmp_path, outside):
    _page(_rows(), tmp_path)
    assert not re.search(outside, (tmp_path / "report.html").read_text())
