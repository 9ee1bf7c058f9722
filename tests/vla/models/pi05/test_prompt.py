"""The prompt's format and bins, and the small tokenizer."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vla.models.pi05.prompt import action_prompt, discretise_state, subtask_prompt
from vla.models.pi05.tokenizer import PromptTokenizer

TEXTS = ["open the drawer", "push the puck to the goal", "reach the handle"]


@pytest.fixture(scope="module")
def tokenizer() -> PromptTokenizer:
    return PromptTokenizer.train(TEXTS, vocab_size=1024)


def test_prompt_format():
    assert action_prompt(" pick_up\nthe mug ", [-1, 0, 128]) == "Task: pick up the mug, State: -1 0 128;\nAction: "
    assert action_prompt("wipe", None) == "Task: wipe;\nAction: "
    assert subtask_prompt("wipe") == "Task: wipe;\nSubtask: "


def test_bins_at_their_edges():
    values = [-1.5, -1.0, -0.9921, -1e-9, 0.0, 0.999, 1.0, 7.0]
    assert discretise_state(torch.tensor(values)).tolist() == [-1, 0, 1, 127, 128, 255, 255, 255]


def test_bins_are_numpy_digitize():
    state = torch.linspace(-1.2, 1.2, 4001)
    expected = np.digitize(state.numpy(), np.linspace(-1, 1, 257)[:-1]) - 1
    assert np.array_equal(discretise_state(state).numpy(), expected)


def test_every_state_number_is_one_token(tokenizer: PromptTokenizer):
    for number in range(-1, 256):
        assert len(tokenizer.encode(f" {number}")) == 1
    with_numbers = tokenizer.encode(action_prompt("open the drawer", [-1, 7, 128, 255]))
    assert len(with_numbers) == len(tokenizer.encode(action_prompt("open the drawer", [0]))) + 3


@pytest.mark.parametrize("text", ["open the drawer", "Déjà vu, 日本 \t1000!", "  two  spaces ", "a;b:c\nd", ""])
def test_text_survives(tokenizer: PromptTokenizer, text: str):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_saved_tokenizer_is_the_same(tokenizer: PromptTokenizer, tmp_path: Path):
    tokenizer.save(tmp_path)
    loaded = PromptTokenizer.load(tmp_path)
    text = action_prompt("push an unseen mug", [12, 255])
    assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.vocab_size == tokenizer.vocab_size <= 1024


def test_training_is_reproducible(tokenizer: PromptTokenizer):
    again = PromptTokenizer.train(reversed([*TEXTS, *TEXTS]), vocab_size=1024)
    assert again.encode("push the puck") == tokenizer.encode("push the puck")


def test_sentencepiece_file(tmp_path: Path):
    import sentencepiece

    corpus = tmp_path / "texts.txt"
    corpus.write_text("\n".join(TEXTS * 20))
    sentencepiece.SentencePieceTrainer.Train(
        input=str(corpus),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=400,
        hard_vocab_limit=False,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        add_dummy_prefix=False,
        minloglevel=2,
    )
    loaded = PromptTokenizer.load(tmp_path / "tokenizer.model")
    assert loaded.decode(loaded.encode("push the mug")) == "push the mug"
    loaded.save(tmp_path)
    assert PromptTokenizer.load(tmp_path).encode("push the mug") == loaded.encode("push the mug")


def test_a_missing_tokenizer_and_a_small_vocabulary_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        PromptTokenizer.load(tmp_path)
    with pytest.raises(ValueError, match=r"model\.vocab_size 300 is too small"):
        PromptTokenizer.train(TEXTS, vocab_size=300)
