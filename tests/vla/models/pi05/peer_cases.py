"""Texts, states and images on whose way into the network a peer could differ, and a Gemma-like tokenizer."""

import json
from pathlib import Path

import numpy as np
import sentencepiece

GOLDEN = Path(__file__).parent / "golden"
LIMIT = 200

TASKS = [
    "open the drawer",
    "  pick_up the\nmug, then wipe_it  ",
    "_leading and trailing_",
    "\n\ttab and newline\n",
    "put 3 of 12 blocks (7 cm) on: shelf #2; wait...",
    "décroche le téléphone, 日本語で, 🤖 e\u0301 ﬁ",
    "two  spaces   three",
    "",
    "say <eos> and <bos> and <image>",
    "a very long instruction " * 60,
    "ends with a space ",
    "CAPITALS Stay As They Are",
]
# (height, width): wider and higher than square, up and down, odd, and thin.
SHAPES = [(9, 23), (30, 17), (14, 14), (21, 21), (5, 7), (13, 15), (48, 64)]


def states() -> np.ndarray:
    """float32 [n, 8], normalised: edges of bins, values beyond, and random ones."""
    rng = np.random.default_rng(0)
    values = rng.uniform(-1.3, 1.3, (len(TASKS), 8)).astype(np.float32)
    values[0] = [-1.5, -1.0, -0.9921875, 0.0, 0.9921875, 1.0, 5.0, -0.0]
    edges = np.linspace(-1, 1, 257)[[1, 100, 200, 255]].astype(np.float32)
    values[1] = np.concatenate([np.nextafter(edges, np.float32(-2)), edges])
    return values


def images(shapes: list[tuple[int, int]], seed: int = 0) -> list[np.ndarray]:
    """uint8 [H, W, 3] of these heights and widths: noise, so that every pixel's weight matters."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


def case(shapes: list[tuple[int, int]], size: int) -> dict[str, np.ndarray]:
    """What benchmarks/peers/text_and_images.py reads."""
    pictures = {f"image_{place}": image for place, image in enumerate(images(shapes))}
    return {"tasks": np.array(TASKS), "states": states(), "limit": np.array(LIMIT), "size": np.array(size), **pictures}


def train_gemma_like(folder: Path) -> None:
    """A sentencepiece `tokenizer.model` of 500 pieces with Gemma's settings: its ids, bytes, digits and newlines."""
    texts = [f"Task: {task}, State: {' '.join(map(str, range(n, 300, 37)))};\nAction: " for n, task in enumerate(TASKS)]
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(texts * 5),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=500,
        hard_vocab_limit=False,
        byte_fallback=True,
        split_digits=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        allow_whitespace_only_pieces=True,
        # Runs of spaces and newlines are tokens (Gemma: to 31); in longer ones the libraries cut differently.
        user_defined_symbols=["<mask>", "<loc0000>", *("\n" * n for n in range(1, 6)), *("▁" * n for n in range(2, 6))],
        minloglevel=2,
    )


def with_image_token(text: str) -> str:
    """A tokenizer.json with `<image>` behind its last id, as PaliGemma's."""
    raw = json.loads(text)
    ids = [*raw["model"]["vocab"].values(), *(token["id"] for token in raw["added_tokens"])]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    raw["added_tokens"].append({"id": max(ids) + 1, "content": "<image>", "special": True, **flags})
    return json.dumps(raw)
