"""CALVIN's language annotations: a pickle, read by an unpickler that can make nothing but inert stand-ins.

lang_annotations/auto_lang_ann.npy holds one Python dictionary: language.ann and language.task, texts of the spans
info.indx, pairs of first and last frame number. numpy would have to run what the file says to load it; here arrays
are kept as what was said of them, and any other name is refused before anything happens.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# 24 hours of play have some 20,000 annotations with a vector of 384 numbers each: 31 MB.
_LARGEST = 1 << 30
_INTEGERS = {f"{sign}{size}" for sign in "iu" for size in (1, 2, 4, 8)}


@dataclass(frozen=True)
class Annotation:
    """A span of frames with its words.

    Attributes:
        first: Number of its first frame.
        last: Number of its last frame.
        text: What a person said of it.
        task: CALVIN's name of what happens, such as "close_drawer"; '' where it has none.
    """

    first: int
    last: int
    text: str
    task: str


class _Said:
    """What a pickle says of an array or a type: remembered, and nothing is made of it."""

    def __init__(self, *said: Any) -> None:
        self.said = said
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _scalar(kind: Any, content: Any = b"") -> Any:
    """A numpy scalar: an integer where it is one."""
    code = kind.said[0] if isinstance(kind, _Said) and kind.said else ""
    if code in _INTEGERS and isinstance(content, bytes):
        # A type's state says which byte comes first: "<" or ">".
        order = "big" if tuple(kind.state[1:2]) == (">",) else "little"
        return int.from_bytes(content, order, signed=code[0] == "i")
    return _Said(kind, content)


def _bytes(text: Any, encoding: Any = "latin1") -> Any:
    return text.encode("latin1") if isinstance(text, str) and encoding == "latin1" else _Said(text)


# What numpy's pickles of every version name.
_STAND_INS = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Said for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{("numpy", name): _Said for name in ("ndarray", "dtype")},
    ("_codecs", "encode"): _bytes,
}


class _Inert(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _STAND_INS[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}") from None


def read_annotations(path: Path) -> list[Annotation]:
    """The annotations of an auto_lang_ann.npy, in its order.

    Raises:
        ValueError: the file holds anything else; nothing in it was run.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is larger than any that CALVIN has")
        content = _content(path)
        language, info = content["language"], content["info"]
        texts, spans = language["ann"], info["indx"]
        tasks = language.get("task") or [""] * len(texts)
        return [
            Annotation(*_span(span), str(text), str(task))
            for span, text, task in zip(_listed(spans), _listed(texts), _listed(tasks), strict=True)
        ]
    except Exception as error:  # noqa: BLE001 - a damaged pickle raises nearly every kind there is
        raise ValueError(
            f"{path} is no file of CALVIN's language annotations ({type(error).__name__}: {error}); "
            "download it again, or read the split without its annotations"
        ) from error


def _content(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read(file)
        if shape != () or not dtype.hasobject:
            raise ValueError(f"it holds {dtype} {shape}, not one dictionary")
        array = _Inert(file).load()
    # numpy's state: version, shape, dtype, order, content
    return array.state[4][0] if isinstance(array, _Said) else array


def _listed(values: Any) -> list[Any]:
    """A list, or an array of objects as a list."""
    return list(values.state[4]) if isinstance(values, _Said) else list(values)


def _span(span: Any) -> tuple[int, int]:
    first, last = _listed(span)
    if not (isinstance(first, int) and isinstance(last, int) and 0 <= first <= last):
        raise ValueError(f"it annotates the frames {span!r}")
    return first, last
