"""The report says what data was left out, each defect once, and is silent where there was none."""

import json
from pathlib import Path

from data_mixtures.defects import Defect
from data_mixtures.quarantine import Quarantine
from eval.report import write_report


def _page(run: Path) -> str:
    steps = [{"name": name, "kind": "lam"} for name in ("one", "two")]
    (run / "pipeline.json").write_text(json.dumps({"steps": steps}))
    return write_report(run, run / "report.html").read_text()


def test_defects_are_counted_once_and_named(tmp_path: Path) -> None:
    for step in ("one", "two"):
        found = Quarantine(tmp_path / step / "quarantine.jsonl")
        (tmp_path / step).mkdir()
        found.add("data/bridge", Defect("train/3", "checksum", "record 3 <is> not what was written"))
    found.add("data/bridge", Defect("train/9", "checksum", "record 9"))
    text = _page(tmp_path)
    assert "2 defects: these episodes or files could not be used" in text
    assert text.count("record 3 &lt;is&gt; not what was written") == 1
    assert '<th scope="row">data/bridge</th><td>checksum</td><td>2</td>' in text


def test_clean_data_has_no_such_section(tmp_path: Path) -> None:
    assert "Data left out" not in _page(tmp_path)
