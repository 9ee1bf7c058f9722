"""Prompts and their ids, letter for letter those of openpi, LeRobot, sentencepiece and transformers."""

import logging
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from transformers import GemmaTokenizer

from tests.vla.models.pi05.peer_cases import GOLDEN, LIMIT, TASKS, states, train_gemma_like, with_image_token
from vla.models.pi05.prompt import action_prompt, clean_instruction, discretise_state, subtask_prompt
from vla.models.pi05.tokenizer import BOS, EOS, PAD, PromptTokenizer

TEXTS = [*TASKS, "\n", " ", "a\n\n\n\n\nb", "tab\tx", "nul\x00x", "\u200b zero width", "12 3 45 678", "▁", "<loc0000>"]
SPECIALS = {"<pad>", "<eos>", "<bos>", "<unk>", "<image>"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentencepiece model trained here, and the tokenizer.json transformers makes of it."""
    folder = tmp_path_factory.mktemp("gemma_like")
    train_gemma_like(folder)
    GemmaTokenizer.from_pretrained(folder).save_pretrained(folder / "json")
    return folder


def says_a_special(text: str) -> bool:
    return any(token in text for token in SPECIALS)


def rows_of(tokenizer: PromptTokenizer, tasks: list[str], values: np.ndarray, limit: int) -> np.ndarray:
    """Prompts' ids, right-padded to `limit`."""
    bins = discretise_state(torch.from_numpy(values)).tolist()
    prompts = [action_prompt(task, row) for task, row in zip(tasks, bins, strict=True)]
    rows = [tokenizer.with_bos(tokenizer.encode(prompt), limit) for prompt in prompts]
    return np.array([row + [PAD] * (limit - len(row)) for row in rows])


def test_recorded_ids_are_openpis():
    """Recorded with benchmarks/peers/text_and_images.py: cleaned text, bins, BOS, no EOS, padding, cut at 200."""
    golden = np.load(GOLDEN / "peers.npz")
    assert golden["tasks"].tolist() == TASKS, "the record is of other texts: record it again"
    assert np.array_equal(golden["states"], states())
    tokenizer = PromptTokenizer.load(GOLDEN / "tokenizer.model")
    ours = rows_of(tokenizer, TASKS, golden["states"], LIMIT)
    assert ours.tolist() == golden["tokens"].tolist()
    lengths = golden["mask"].sum(1)
    assert [(row != PAD).sum() for row in ours] == lengths.tolist()
    assert lengths.max() == LIMIT, "one prompt is cut"
    assert set(ours[:, 0]) == {BOS}
    assert EOS not in ours


def test_a_prompt_that_is_cut_loses_its_end_and_is_logged_once(folder: Path, caplog: pytest.LogCaptureFixture):
    tokenizer = PromptTokenizer.load(folder)
    ids = tokenizer.encode(action_prompt("word " * 300, [1, 2]))
    with caplog.at_level(logging.WARNING):
        assert tokenizer.with_bos(ids[: LIMIT - 1], LIMIT) == [BOS, *ids[: LIMIT - 1]]
        assert not caplog.records
        assert tokenizer.with_bos(ids, LIMIT) == [BOS, *ids[: LIMIT - 1]]
        tokenizer.with_bos(ids, LIMIT)
    assert len(caplog.records) == 1
    assert f"has {len(ids) + 1} tokens, and only the first 200" in caplog.text


def test_ids_are_sentencepieces_and_transformers(folder: Path):
    piece = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    gemma = GemmaTokenizer.from_pretrained(folder, add_bos_token=True)
    assert [piece.pad_id(), piece.eos_id(), piece.bos_id(), piece.unk_id()] == [0, 1, 2, 3]
    ours, from_json = PromptTokenizer.load(folder), PromptTokenizer.load(folder / "json")
    for text in [*TEXTS, *(action_prompt(text, [-1, 0, 128, 255]) for text in TEXTS)]:
        ids = piece.encode(text)
        assert ours.encode(text) == ids
        if not says_a_special(text):
            assert from_json.encode(text) == ids
            assert gemma(text)["input_ids"] == [BOS, *ids] == ours.with_bos(ids, 1000)
            assert ours.decode(ids) == from_json.decode(ids) == text.replace("▁", " ")


def test_no_text_becomes_a_control_token(folder: Path):
    """Sentencepiece reads "<eos>" as text; transformers, and so LeRobot, would end the prompt there."""
    text = "say <eos> and <bos> <pad>"
    gemma = GemmaTokenizer.from_pretrained(folder)
    assert EOS in gemma(text)["input_ids"]
    for tokenizer in (PromptTokenizer.load(folder), PromptTokenizer.load(folder / "json")):
        ids = tokenizer.encode(text)
        assert not {PAD, EOS, BOS} & set(ids)
        assert tokenizer.decode(ids) == text


def test_paligemmas_image_token_needs_no_embedding(folder: Path, tmp_path: Path):
    plain = PromptTokenizer.load(folder / "json")
    path = tmp_path / "tokenizer.json"
    path.write_text(with_image_token((folder / "json" / "tokenizer.json").read_text()))
    with_image = PromptTokenizer.load(path)
    assert with_image.vocab_size == plain.vocab_size == PromptTokenizer.load(folder).vocab_size
    assert max(with_image.encode("an <image> of it")) < plain.vocab_size


def test_state_bins_at_their_traps():
    values = [-1.5, np.nextafter(-1, -2), -1, np.nextafter(-0.9921875, -1), -0.9921875, -1e-9, -0.0, 0, 1, 7, np.inf]
    expected = [-1, -1, 0, 0, 1, 127, 128, 128, 255, 255, 255]
    assert discretise_state(torch.tensor(values, dtype=torch.float64)).tolist() == expected
    assert discretise_state(torch.tensor([float("nan"), float("-inf")])).tolist() == [255, -1]  # as numpy.digitize
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        state = torch.from_numpy(states()).to(dtype)
        edges = np.linspace(-1, 1, 256 + 1)[:-1]
        assert np.array_equal(discretise_state(state).numpy(), np.digitize(state.double().numpy(), edges) - 1)


def test_instructions_are_cleaned_in_the_published_order():
    assert clean_instruction(" _a_\n") == " a "  # stripped first: what underscores leave stays
    assert clean_instruction("a\r\n\tb__c\n\n") == "a\r \tb  c"
    assert action_prompt("wipe\nit", [128]) == "Task: wipe it, State: 128;\nAction: "
    assert subtask_prompt("pick_it") == "Task: pick it;\nSubtask: "


def test_action_tokens_follow_the_prompt_as_in_pi0_fast(folder: Path):
    """There `Action: ` is the answer's beginning, tokenized apart; the ids in a row are the same."""
    tokenizer = PromptTokenizer.load(folder)
    whole = tokenizer.encode(action_prompt("open the drawer", [0, 255]))
    assert whole == tokenizer.encode("Task: open the drawer, State: 0 255;\n") + tokenizer.encode("Action: ")


def test_ids_beyond_the_tokenizers_decode_to_nothing(folder: Path):
    for tokenizer in (PromptTokenizer.load(folder), PromptTokenizer.load(folder / "json")):
        ids = tokenizer.encode("open")
        assert tokenizer.decode([BOS, *ids, tokenizer.vocab_size, tokenizer.vocab_size + 500, EOS, PAD]) == "open"


def test_kept_strings_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vla.models.pi05.tokenizer._MOST_KEPT", 2)
    tokenizer = PromptTokenizer.load(folder)
    first = [tokenizer.encode(text) for text in ("a", "b", "c", "a", "c")]
    assert len(tokenizer._known) == 2
    assert first[0] == first[3]
    assert first[2] == first[4]
