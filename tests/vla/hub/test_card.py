"""The model card: what it says, and that no name can break it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.vla.hub.conftest import make_run
from vla.hub.card import Stated, Success, plain, write_card
from vla.hub.facts import read_facts

HOSTILE = [
    "](https://evil.example)",
    "---",
    "--- \nlicense: mit\n---",
    "| a | b |",
    "<script>alert(1)</script>",
    "![x](https://evil.example/pixel.png)",
    "`code` **bold** _it_ ~~s~~ # h",
    "{{ config }} {% raw %}",
    "https://evil.example www.evil.example a@evil.example",
    "1. - + * > item",
    "\u202egnihsif\x00\x1b[31m",
    "&lt;b&gt; \\",
]


def rows_of(task: str = "drawer-open", policy: str = "distilled") -> list[Success]:
    return [Success("metaworld", task, policy, 2, 18, 20, 0.699, 0.972)]


def tokens_of(card: str) -> list[Token]:
    """All tokens of the card's Markdown, inline ones too, read as the Hub's Markdown is (tables, bare links)."""
    body = card.split("---\n", 2)[2]
    parsed = MarkdownIt("commonmark", {"linkify": False}).enable(["table", "strikethrough"]).parse(body)
    return [token for block in parsed for token in [block, *(block.children or [])]]


def metadata_of(card: str) -> dict[str, Any]:
    start, metadata, _ = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(metadata)


def test_what_it_says(run: Path) -> None:
    card = write_card(read_facts(run), "alice/drawer", "step-600", Stated("apache-2.0"), rows_of())
    assert metadata_of(card) == {
        "license": "apache-2.0",
        "library_name": "vla",
        "pipeline_tag": "robotics",
        "tags": ["robotics", "vision-language-action", "pi05"],
    }
    for line in (
        "| parameters | 60,000, stored as F32 |",
        "| metaworld | drawer-open | 0.90 | 0.70–0.97 | 20 |",
        "| expert | not stated | at most 2 of every task | 1.0 | not known | not known |",
        "| steps | 600 |",
        "| batch | 32 |",
        "| wall time | 1.00 h |",
        "| code | abc123 |",
        'policy = Policy.from_pretrained("alice/drawer", revision="step-600")',
        'actions = policy.act(Observation({"corner": image}, state, "what to do"))  # [16, ...]',
        "apache-2.0, as stated by the one who pushed it.",
        "- Safety on a real robot: not measured. Keep a hand on the stop.",
    ):
        assert line in card, line
    assert "LeRobot" not in card
    assert card == write_card(read_facts(run), "alice/drawer", "step-600", Stated("apache-2.0"), rows_of())


def test_what_was_not_measured_is_said(run: Path) -> None:
    (run / "done.json").unlink()
    card = write_card(read_facts(run), "alice/drawer", "step-600", Stated())
    assert "Not measured: no rollouts of this model were given" in card
    assert "- Success was not measured." in card
    assert "- Training was not finished when this was pushed." in card
    assert "Unknown: none was stated." in card
    assert metadata_of(card)["license"] == "unknown"


def test_lerobots_lines_only_where_it_can_read_the_folder(run: Path) -> None:
    (run / "model" / "config.json").write_text('{"type": "pi05"}')
    assert "lerobot" not in write_card(read_facts(run), "alice/drawer", "step-600", Stated()), "not of a size it builds"
    sizes = {
        "vlm": {"width": 2048, "depth": 18, "mlp_dim": 16384},
        "expert": {"width": 1024, "depth": 18, "mlp_dim": 4096},
    }
    (run / "model" / "pi05.json").write_text(json.dumps(sizes))
    card = write_card(read_facts(run), "alice/drawer", "step-600", Stated())
    assert metadata_of(card)["library_name"] == "lerobot"
    assert "from lerobot.policies.pi05.modeling_pi05 import PI05Policy" in card
    assert 'PI05Policy.from_pretrained("alice/drawer", revision="step-600")' in card


def test_a_teacher_is_taken_by_a_recipe(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lam", stage="lam", objective=None)
    card = write_card(read_facts(run), "alice/teacher", "step-600", Stated())
    assert "vla pull alice/teacher --revision step-600 --to runs/teacher" in card
    assert "`teacher: runs/teacher`" in card
    assert "- It gives no actions by itself." in card


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_words(tmp_path: Path, name: str) -> None:
    data = {"datasets": [{"path": "runs/x", "source": name, "weight": 1.0}]}
    run = make_run(tmp_path / "run", data=data, loop={"dtype": name, "steps": 600})
    (run / "model" / "processor.json").write_text(yaml.safe_dump({"cameras": []}))
    plainly = write_card(read_facts(make_run(tmp_path / "plain")), "a/b", "step-600", Stated(), rows_of(), rows_of())
    card = write_card(read_facts(run), "a/b", "step-600", Stated(), rows_of(name, name), rows_of(name, name))
    assert metadata_of(card) == metadata_of(plainly)
    kinds = [token.type for token in tokens_of(card) if token.type != "softbreak"]
    expected = [token.type for token in tokens_of(plainly) if token.type != "softbreak"]
    extra = {kind: kinds.count(kind) - expected.count(kind) for kind in {*kinds, *expected}}
    rows = {"tr_open", "tr_close", "td_open", "td_close", "inline", "text", "text_special"}  # batch, seed: fewer rows
    assert {kind: n for kind, n in extra.items() if n and kind not in rows} == {}
    shown = re.sub(r"[\x00-\x1f\u202e]", "", name.replace("\n", " ")).strip()
    cells = [token.content for token in tokens_of(card) if token.type == "inline"]
    rendered = [MarkdownIt("commonmark").renderInline(cell) for cell in cells]
    escaped = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert rendered.count(escaped) == 4, (escaped, rendered)


def test_hostile_camera_names_stay_in_their_string(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "model" / "processor.json").write_text(yaml.safe_dump({"cameras": ['"}\n```\n# x']}))
    card = write_card(read_facts(run), "a/b", "step-600", Stated())
    fences = [token.content for token in tokens_of(card) if token.type == "fence"]
    assert len(fences) == 1
    compile(fences[0], "card", "exec")


def test_bare_links_are_broken_for_readers_that_make_them() -> None:
    text = plain("see https://evil.example, www.evil.example and a@evil.example")
    assert not re.search(r"://|www\.|@", text)


def test_a_licence_is_never_guessed_silently(tmp_path: Path) -> None:
    weights = tmp_path / "pi05_base"
    weights.mkdir()
    run = make_run(tmp_path / "run", objective={"init_from": str(weights), "model": {"vocab_size": 512}})
    facts = read_facts(run)
    card = write_card(facts, "a/b", "step-600", Stated())
    assert metadata_of(card)["license"] == "gemma"
    assert "https://ai.google.dev/gemma/terms" in card
    assert "No other licence was stated." in card
    stated = write_card(facts, "a/b", "step-600", Stated("apache-2.0"))
    assert metadata_of(stated)["license"] == "apache-2.0"
    assert "descend from Gemma: [Gemma's terms]" in stated
    assert "Licence of pi05_base: not known here." in stated


def test_bases_and_data_sets_of_the_hub_are_linked(tmp_path: Path) -> None:
    data = {
        "datasets": [
            {"path": "hf://datasets/lerobot/pusht"},
            {"path": "x", "source": "AgiBot (huggingface.co/datasets/agibot-world/AgiBotWorld-Alpha)"},
        ]
    }
    facts = read_facts(make_run(tmp_path / "run", data=data))
    metadata = metadata_of(write_card(facts, "a/b", "step-600", Stated(base_models=("lerobot/pi05_base",))))
    assert metadata["datasets"] == ["agibot-world/AgiBotWorld-Alpha", "lerobot/pusht"]
    assert metadata["base_model"] == ["lerobot/pi05_base"]
