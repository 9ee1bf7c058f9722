"""What may lie in a model's folder: safetensors whose header holds, and text; never a pickle."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open

from vla.models.pi05.dead_head import NAME as DEAD_HEAD

SUFFIXES = (".safetensors", ".json", ".jsonl", ".yaml", ".yml", ".txt", ".md", ".model", ".jinja")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".distcp", ".npy", ".npz", ".msgpack", ".h5")
TEXT = (".json", ".jsonl", ".yaml", ".yml", ".txt", ".md", ".jinja")


@dataclass(frozen=True)
class Weights:
    """What a safetensors header says: `parameters` in all, the `dtypes` they are stored in, its own `notes`."""

    parameters: int
    dtypes: tuple[str, ...]
    notes: dict[str, str]


def read_header(path: Path) -> Weights:
    """Check a safetensors file (header, offsets and length agree) without reading its tensors.

    Raises:
        ValueError: it is cut short, or is something else.
    """
    try:
        with safe_open(path, framework="np") as file:
            # What is there only because LeRobot insists on it is no parameter of the model.
            names = [name for name in file.keys() if name != DEAD_HEAD]  # noqa: SIM118 - not a mapping
            slices = [file.get_slice(name) for name in names]
            parameters = sum(prod(piece.get_shape()) for piece in slices)
            return Weights(parameters, tuple(sorted({p.get_dtype() for p in slices})), dict(file.metadata() or {}))
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); write or download it again") from error


def header_text(path: Path) -> str:
    """The header of a safetensors file that `read_header` found whole: JSON of tensor names, shapes and notes."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return file.read(length).decode()


def is_pickle(path: Path) -> bool:
    """True for a pickle, by name or by content: a raw one, or the zip that torch.save writes."""
    if path.suffix.lower() in PICKLES:
        return True
    with path.open("rb") as file:
        start = file.read(256)
    raw = len(start) > 1 and start[0] == 0x80 and 2 <= start[1] <= 5
    return raw or (start.startswith(b"PK\x03\x04") and b"data.pkl" in start)
