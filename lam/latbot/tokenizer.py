"""The teacher's tokenizer: a small BPE trained on the spot, or the folder of a published one.

A nano teacher has no published vocabulary to respect, so its BPE may merge across words: the fixed parts of the
prompt become a token or two each instead of about eighty, which is worth a third of the encoder's time.
"""

from collections.abc import Iterable
from pathlib import Path

from vla.nn.torchvision_ops import ensure_torchvision_operators

ensure_torchvision_operators()

from tokenizers import Tokenizer, decoders, models, normalizers, trainers  # noqa: E402
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast  # noqa: E402

IMAGE_START, IMAGE_TOKEN, IMAGE_END, PAD = "<img>", "<IMG_CONTEXT>", "</img>", "<|endoftext|>"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """A byte-fallback BPE over `texts` with InternVL's image tokens; the same texts give the same tokenizer.

    Args:
        texts: What to be compact on; any other text still round-trips, through bytes in the worst case.
        vocab_size: Upper bound; at least 300 (256 bytes, the image tokens, and room for letters).
    """
    if vocab_size < 300:
        raise ValueError(f"language.vocab_size={vocab_size} leaves no room for 256 bytes and letters; use 300 or more")
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=PAD))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = [PAD, IMAGE_START, IMAGE_TOKEN, IMAGE_END]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=1, special_tokens=special + _BYTES, show_progress=False
    )
    tokenizer.train_from_iterator(sorted(set(texts)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, additional_special_tokens=[IMAGE_START, IMAGE_TOKEN, IMAGE_END]
    )


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """A saved or published tokenizer; it must know InternVL's `<img>`, `<IMG_CONTEXT>` and `</img>`."""
    if not Path(folder).is_dir():
        raise ValueError(f"language.tokenizer={str(folder)!r} is not a folder; give one that holds tokenizer.json")
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    known = tokenizer.get_vocab()
    missing = [token for token in (IMAGE_START, IMAGE_TOKEN, IMAGE_END) if token not in known]
    if missing:
        raise ValueError(f"language.tokenizer={str(folder)!r} lacks {missing}; use InternVL's tokenizer folder")
    return tokenizer
