"""FAST action tokens against the algorithm written out, recorded ids of the published code, and its file layout."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from vla.models.pi05.fast_tokens import FastTokens
from vla.models.pi05.tokenizer import EOS, PromptTokenizer

VLM_VOCAB = 257_152
HIGHEST = VLM_VOCAB - 1 - 128
STEPS, DIMS = 16, 7
GOLDEN = Path(__file__).parent / "golden" / "fast.json"


def smooth_chunks(count: int, seed: int, steps: int = STEPS, dims: int = DIMS) -> list[np.ndarray]:
    """Sums of four slow sines, float32, mostly within -1..1."""
    rng = np.random.default_rng(seed)
    turns = np.arange(1, 5)[:, None, None] * 1.4 * np.pi * np.arange(steps)[None, :, None] / steps
    chunks = []
    for _ in range(count):
        size, phase = rng.normal(0, 0.3, (4, 1, dims)), rng.uniform(0, 2 * np.pi, (4, 1, dims))
        chunks.append((size * np.sin(turns + phase)).sum(0).astype(np.float32))
    return chunks


@pytest.fixture(scope="module")
def fast() -> FastTokens:
    return FastTokens.fit(smooth_chunks(200, seed=0), VLM_VOCAB, vocab_size=512)


def coefficients(chunk: np.ndarray, scale: float = 10.0) -> np.ndarray:
    """The orthonormal DCT-II over time, from its definition, in steps of 1 / scale."""
    steps = len(chunk)
    k, n = np.arange(steps)[:, None], np.arange(steps)[None, :]
    matrix = np.cos(np.pi * k * (2 * n + 1) / (2 * steps)) * np.sqrt(np.where(k == 0, 1, 2) / steps)
    return scale * matrix @ chunk.astype(np.float64)


def test_tokens_spell_the_rounded_cosine_transform(fast: FastTokens):
    for chunk in smooth_chunks(20, seed=1):
        spelt = fast.tokenizer.decode([HIGHEST - i for i in fast.encode(chunk)], skip_special_tokens=False)
        written = np.array([ord(letter) for letter in spelt]).reshape(STEPS, DIMS) + fast.min_token
        exact = coefficients(chunk)
        inside = exact > fast.min_token
        assert np.abs(written - exact)[inside].max() <= 0.5 + 1e-4
        assert np.array_equal(written[~inside], np.full((~inside).sum(), fast.min_token))


def test_a_chunk_comes_back_within_half_a_step(fast: FastTokens):
    lengths = []
    for chunk in smooth_chunks(50, seed=2):
        ids = fast.encode(chunk)
        back = fast.decode(ids)
        assert back.shape == chunk.shape
        assert back.dtype == np.float32
        if coefficients(chunk).min() > fast.min_token:  # the transform is orthonormal: errors keep their norm
            assert np.sqrt(np.square(back - chunk).mean()) <= 0.05
        lengths.append(len(ids))
        assert fast.id_range[0] <= min(ids) <= max(ids) <= HIGHEST == fast.id_range[1]
    assert np.mean(lengths) < STEPS * DIMS / 2, "byte pairs compress smooth motion"


def test_time_is_outermost(fast: FastTokens):
    """The first letters are the chunk's means, dimension by dimension."""
    chunk = np.zeros((STEPS, DIMS), np.float32)
    chunk[:, 3] = 0.25  # its coefficient: 0.25 * sqrt(16) * 10 = 10
    spelt = fast.tokenizer.decode([HIGHEST - i for i in fast.encode(chunk)], skip_special_tokens=False)
    letters = [ord(letter) + fast.min_token for letter in spelt]
    assert letters[:DIMS] == [0, 0, 0, 10, 0, 0, 0]
    assert not any(letters[DIMS:])


def test_ids_are_the_published_codes():
    """Recorded with benchmarks/peers/fast_tokens_golden.py: the published code fits and encodes the same chunks."""
    golden = json.loads(GOLDEN.read_text())
    fast = FastTokens.fit(smooth_chunks(golden["fitted"], seed=0), VLM_VOCAB, golden["vocab_size"])
    assert fast.min_token == golden["min_token"]
    vocabulary = fast.tokenizer.get_vocab()
    assert all(vocabulary[letters] == token for letters, token in golden["vocabulary"].items())
    chunks = smooth_chunks(20, seed=1)
    assert len(golden["tokens"]) >= 15
    for place, tokens in golden["tokens"].items():
        assert fast.encode(chunks[int(place)]) == [HIGHEST - token for token in tokens]


def test_coefficients_beyond_the_fitted_ones(fast: FastTokens):
    """Below the range is clamped, as published; letters that no chunk had are written, though not as published."""
    low, high = np.full((STEPS, DIMS), -9, np.float32), np.full((STEPS, DIMS), 9, np.float32)
    np.testing.assert_allclose(fast.decode(fast.encode(low)), fast.min_token / 10 / np.sqrt(STEPS), atol=1e-5)
    np.testing.assert_allclose(fast.decode(fast.encode(high)), 9, atol=0.02)
    few = FastTokens.fit(smooth_chunks(3, seed=0), VLM_VOCAB)
    for chunk in smooth_chunks(20, seed=3):
        assert few.decode(few.encode(chunk)).shape == chunk.shape


def test_a_vocabulary_with_gaps_takes_the_nearest_letter(fast: FastTokens):
    raw = json.loads(fast.tokenizer.to_str())
    zero = fast.tokenizer.encode(chr(-fast.min_token)).tokens[0]
    model = raw["model"]
    model["merges"] = [pair for pair in model["merges"] if zero not in "".join(pair)]
    model["vocab"] = {letters: token for letters, token in model["vocab"].items() if zero not in letters}
    gap = FastTokens(fast.tokenizer.from_str(json.dumps(raw)), VLM_VOCAB, fast.min_token)
    back = gap.decode(gap.encode(np.zeros((STEPS, DIMS))), STEPS, DIMS)
    assert np.abs(coefficients(back)).round(3).tolist() == np.ones((STEPS, DIMS)).tolist()


def test_saved_files_are_the_published_layout(fast: FastTokens, tmp_path: Path):
    fast.save(tmp_path)
    config = json.loads((tmp_path / "processor_config.json").read_text())
    code = config.pop("auto_map")["AutoProcessor"]
    assert code.endswith("processing_action_tokenizer.UniversalActionProcessor")
    assert config == {
        "action_dim": DIMS,
        "min_token": fast.min_token,
        "processor_class": "UniversalActionProcessor",
        "scale": 10.0,
        "time_horizon": STEPS,
        "vocab_size": 512,
    }
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    loaded = FastTokens.load(tmp_path, VLM_VOCAB)
    for chunk in smooth_chunks(10, seed=4):
        ids = fast.encode(chunk)
        assert loaded.encode(chunk) == ids
        letters = np.maximum(coefficients(chunk).round().astype(int) - fast.min_token, 0).flatten().tolist()
        assert theirs("".join(map(chr, letters)))["input_ids"] == [HIGHEST - i for i in ids]
        assert np.array_equal(loaded.decode(ids), fast.decode(ids))
    (tmp_path / "bpe_tokenizer").mkdir()
    (tmp_path / "tokenizer.json").rename(tmp_path / "bpe_tokenizer" / "tokenizer.json")
    assert FastTokens.load(tmp_path, VLM_VOCAB).encode(chunk) == fast.encode(chunk)


def test_an_unsized_file_asks_for_the_chunks_shape(fast: FastTokens, tmp_path: Path):
    fast.save(tmp_path)
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"action_dim": None, "time_horizon": None}))
    unsized, chunk = FastTokens.load(tmp_path, VLM_VOCAB), smooth_chunks(1, seed=5)[0]
    with pytest.raises(ValueError, match="give horizon, action_dim"):
        unsized.decode(unsized.encode(chunk))
    assert np.array_equal(unsized.decode(unsized.encode(chunk), STEPS, DIMS), fast.decode(fast.encode(chunk)))
    other = smooth_chunks(1, seed=6, steps=10, dims=3)[0]
    assert np.abs(unsized.decode(unsized.encode(other), 10, 3) - other).max() < 0.2


def test_continuation_ends_with_a_bar_and_eos(fast: FastTokens):
    tokenizer, chunk = PromptTokenizer.train(["open the drawer"], 1024), smooth_chunks(1, seed=7)[0]
    row = fast.continuation(chunk, tokenizer)
    assert row[:-2] == fast.encode(chunk)
    assert tokenizer.decode(row[-2:-1]) == "|"
    assert row[-1] == EOS


def test_what_cannot_be_is_refused(fast: FastTokens, tmp_path: Path):
    ids = fast.encode(smooth_chunks(1, seed=8)[0])
    with pytest.raises(ValueError, match=rf"id {HIGHEST + 1} is no action token: they are .* to {HIGHEST}"):
        fast.decode([*ids, HIGHEST + 1])
    with pytest.raises(ValueError, match=r"coefficients, not 16 \* 7"):
        fast.decode(ids[:-1])
    with pytest.raises(ValueError, match="give finite actions"):
        fast.encode(np.full((STEPS, DIMS), np.nan))
    with pytest.raises(ValueError, match=r"model.vocab_size 600 has no room .* raise it by \d+"):
        FastTokens(fast.tokenizer, 600, 0)
    with pytest.raises(ValueError, match=r"vocab_size is 20, but the actions' coefficients span -"):
        FastTokens.fit(smooth_chunks(20, seed=0), VLM_VOCAB, vocab_size=20)
    with pytest.raises(ValueError, match="lacks tokenizer.json or processor_config.json"):
        FastTokens.load(tmp_path, VLM_VOCAB)


def test_a_narrow_vocabulary_is_said(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        FastTokens.fit(smooth_chunks(20, seed=0), VLM_VOCAB, vocab_size=130)
    assert "leave few of 130 tokens" in caplog.text
