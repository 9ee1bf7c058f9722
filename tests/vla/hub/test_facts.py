"""What a run says of itself."""

import json
from pathlib import Path

import pytest

from tests.vla.hub.conftest import make_run
from vla.hub.facts import Published, read_facts


def start(folder: Path, vocabulary: int = 512) -> dict[str, object]:
    return {"init_from": str(folder), "model": {"vocab_size": vocabulary}}


def test_steps_of_a_run_that_is_done_and_of_one_that_is_not(run: Path) -> None:
    (run / "metrics.jsonl").write_text('{"step": 590}\n')
    assert read_facts(run).step == 600, "the last step need not be logged"
    (run / "done.json").unlink()
    assert (read_facts(run).step, read_facts(run).finished) == (590, False)
    (run / "metrics.jsonl").unlink()
    assert read_facts(run).step is None


def test_a_fresh_start_has_no_base(run: Path) -> None:
    base = read_facts(run).base
    assert (base.published, base.through, base.unknown) == ((), (), ())


def test_the_base_is_found_through_earlier_runs(tmp_path: Path) -> None:
    weights = tmp_path / "paligemma" / "model.safetensors"
    weights.parent.mkdir()
    weights.touch()
    first = make_run(tmp_path / "distill", stage="distill", objective=start(weights))
    second = make_run(tmp_path / "policy", objective=start(first / "model"))
    base = read_facts(second).base
    assert base.through == ("distill",)
    assert base.published == (Published("paligemma", gemma=True),)


def test_the_full_vocabulary_is_gemmas(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    small, large = (make_run(tmp_path / str(v), objective=start(tmp_path / "mine", v)) for v in (512, 257152))
    assert [w.gemma for w in read_facts(small).base.published] == [False]
    assert [w.gemma for w in read_facts(large).base.published] == [True]


def test_weights_that_were_pulled_know_their_repository_and_licence(tmp_path: Path) -> None:
    pulled = make_run(tmp_path / "base")
    (pulled / "pulled.json").write_text(json.dumps({"repo": "bob/x", "commit": "c", "license": "apache-2.0"}))
    run = make_run(tmp_path / "run", objective=start(pulled / "model"))
    assert read_facts(run).base.published == (Published("bob/x", "bob/x", "apache-2.0", gemma=False),)


def test_a_base_that_is_gone_is_unknown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", objective=start(tmp_path / "gone" / "model"))
    assert read_facts(run).base.unknown == ("gone",)


def test_a_teachers_published_parts_are_its_base(tmp_path: Path) -> None:
    (tmp_path / "InternVL3-2B").mkdir()
    parts = {"pretrained": {"internvl": str(tmp_path / "InternVL3-2B"), "sana": None}}
    run = make_run(tmp_path / "run", stage="lam", objective=None, model=parts)
    assert [w.name for w in read_facts(run).base.published] == ["InternVL3-2B"]


def test_episodes_and_hours_of_a_data_set_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    meta = tmp_path / "expert" / "data" / "meta"
    meta.mkdir(parents=True)
    (meta / "info.json").write_text(json.dumps({"total_episodes": 25, "total_frames": 36000, "fps": 20}))
    rows = [{"path": "expert/data", "labelled_share": 0.1, "only_successes": True}]
    data = read_facts(make_run(tmp_path / "run", data={"datasets": rows})).data[0]
    assert (data.name, data.episodes, data.hours) == ("expert", 25, 0.5)
    assert data.taken == "successes only, actions of 10% seen"


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no readable recipe.yaml"):
        read_facts(tmp_path)
