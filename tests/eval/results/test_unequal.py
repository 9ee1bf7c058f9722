"""What is never averaged, and the words of the refusal."""

import pytest

from eval.results.row import protocol_digest
from eval.results.unequal import difference_of, refuse_unequal


def _mixed(played, **change):
    protocol = change.get("protocol_json")
    if protocol:
        change["protocol_hash"] = protocol_digest(protocol)
    return played([True], file="a/x.jsonl") + played([True], file="b/x.jsonl", task="plate", **change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"assets": "stand-in"}, "assets is 'official' in a/x.jsonl and 'stand-in' in b/x.jsonl"),
        ({"quoted": "final"}, "quoted is 'any' in a/x.jsonl and 'final'"),
        ({"checkpoint": "cd" * 32}, f"checkpoint is '{'ab' * 32}' in a/x.jsonl and '{'cd' * 32}'"),
        (
            {"protocol_json": {"name": "openpi", "execute": 8, "image_size": [256, 256], "past_success": None}},
            "protocol.execute is 5 in a/x.jsonl and 8 in b/x.jsonl",
        ),
        (
            {"protocol_json": {"name": "openpi", "execute": 5, "image_size": [256, 256], "past_success": None, "x": 1}},
            "protocol.x is None in a/x.jsonl and 1 in b/x.jsonl",
        ),
    ],
)
def test_refused_in_words(played, change, words):
    with pytest.raises(ValueError, match="distilled on libero_spatial: ") as caught:
        refuse_unequal(_mixed(played, **change))
    assert words in str(caught.value)
    assert "never averaged" in str(caught.value)
    assert "Give `vla report` one of the two" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"assets": "stand-in", "policy": "scratch"},
        {"assets": "stand-in", "suite": "libero_goal"},
        {"checkpoint": "cd" * 32, "labels": {"train_seed": 1}},
        {"assets": "stand-in", "setting": "variant_aggregation/base"},
    ],
)
def test_what_is_not_averaged_may_differ(played, change):
    refuse_unequal(_mixed(played, **change))


def test_settings_of_one_grid_are_averaged(played):
    both = played([True], setting="visual_matching/a") + played([True], setting="visual_matching/b", assets="own")
    with pytest.raises(ValueError, match="assets is 'official'"):
        refuse_unequal(both)


def test_differences_of_protocols():
    assert difference_of({"a": 1, "b": (1, 2)}, {"b": [1, 2], "a": 1}) is None
    assert difference_of({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == ("a.c", 2, 3)
    assert difference_of({"z": 1, "a": 2}, {"z": 2, "a": 3}) == ("a", 2, 3)
    # Other tasks are no other protocol; another limit for the same one is.
    assert difference_of({"max_steps": {"push": 60}}, {"max_steps": {"pull": 70}}) is None
    assert difference_of({"max_steps": {"push": 60}}, {"max_steps": {"push": 70}}) == ("max_steps.push", 60, 70)
    assert difference_of({"max_steps": 60}, {"max_steps": 70}) == ("max_steps", 60, 70)
