"""Are the simulator's pictures the ones the checkpoint was trained on: brightness, colours, which way up, what is seen.

Pictures are compared as thumbnails of 16 x 16 mean colours, fitted as the policy fits them. Every change that could
have befallen them is undone in turn; one that brings them clearly nearer to training's is named.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_mixtures.statistics.seen import THUMBNAIL, CameraSeen, Seen
from data_mixtures.storage.frames import fit_square
from eval.preflight.checkpoint import Checkpoint
from eval.preflight.findings import Finding, Verdict

_CLEARLY = 0.6  # a cause must leave less than this share of the distance,
_GAIN = 2.0  # and bring pictures nearer by this many levels (of 255, root mean square)
_BRIGHTER, _MUCH_BRIGHTER = 10.0, 25.0  # levels of a channel's mean: warned of, refused
_SPREADS = 4.0  # standard deviations of single frames' means that training's pictures lay apart
_ANOTHER_VIEW = 30.0  # levels between thumbnails that no scene of the same camera explains
_SHARES = (0.95, 0.9, 0.8, 0.7)  # of a side that a crop leaves

_OPENPI_CROP = 0.95  # whose policies act on whole frames

_WAY_UP = "rotate pictures in one place only: by the suite, as its protocol says"


@dataclass(frozen=True)
class _Cause:
    words: str
    fix: str
    distance: float


def check_pictures(checkpoint: Checkpoint, frames: Mapping[str, Sequence[np.ndarray]]) -> list[Finding]:
    """Compare what each camera showed with what the checkpoint was trained on.

    Args:
        checkpoint: With `seen`; one that has none is told so.
        frames: Camera -> frames uint8 [H, W, 3] at resets and along replays.
    """
    if checkpoint.seen is None:
        words = "the checkpoint does not say what its training pictures looked like"
        fix = (
            "models trained from now on keep a seen.json; the demonstrations' frames are compared where they are given"
        )
        return [Finding("pictures", "not checked", "all cameras", words, "it was written by an older version", fix)]
    size = checkpoint.frame_size
    fitted = {camera: _fitted(shown, size) for camera, shown in frames.items() if shown}
    found = [finding for camera in fitted for finding in _check_camera(camera, fitted, checkpoint.seen)]
    return found + _crops(checkpoint)


def _crops(checkpoint: Checkpoint) -> list[Finding]:
    """What training cut off at random, against what is cut off when the policy acts."""
    seen = checkpoint.seen
    if seen is None or seen.crop == 1:
        return []
    words = f"training cropped to {seen.crop:.0%} of a side"
    if checkpoint.centre_crop:
        return [Finding("pictures", "passed", "centre crop", f"{words}, and the checkpoint crops to the same middle")]
    words += ", and the checkpoint acts on whole frames, as openpi's do"
    fix = "train with `augment.acting: centre` if the recipe you follow crops when it acts, as OpenVLA's does"
    cause = "a centre crop is missing: 3 points, where it was reported"
    verdict: Verdict = "passed" if seen.crop >= _OPENPI_CROP else "warning"
    return [Finding("pictures", verdict, "centre crop", words, "" if verdict == "passed" else cause, fix)]


def compare_frames(key: str, recorded: Mapping[str, np.ndarray], drawn: Mapping[str, np.ndarray]) -> list[Finding]:
    """Compare frames a demonstration was recorded with, camera -> uint8 [n, H, W, 3], with what is drawn there now."""
    names = [camera for camera in recorded if camera in drawn]
    seen = Seen({camera: CameraSeen.of(recorded[camera]) for camera in names}, ())
    fitted = {camera: _fitted(list(drawn[camera]), recorded[camera].shape[1]) for camera in names}
    found = [finding for camera in names for finding in _check_camera(camera, fitted, seen, f" in {key}")]
    missing = sorted(set(drawn) - set(recorded))
    if missing:
        words = f"the demonstrations were recorded without {missing}; their cameras are {sorted(recorded)}"
        found.append(Finding("pictures", "not checked", f"camera {missing[0]!r}", words))
    return found


def _fitted(shown: Sequence[np.ndarray], size: int | None) -> np.ndarray:
    """Frames as the policy fits them, uint8 [n, H, W, 3]."""
    side = size or max(shown[0].shape[:2])
    return np.concatenate([fit_square(frame[None], side) for frame in shown]).transpose(0, 2, 3, 1)


def _check_camera(camera: str, frames: Mapping[str, np.ndarray], seen: Seen, against: str = "") -> Iterator[Finding]:
    """What is off with one camera, or that nothing is."""
    where = f"camera {camera!r}"
    if camera not in seen.cameras:
        return
    trained, shown = seen.cameras[camera], CameraSeen.of(frames[camera])
    distance = _apart(np.array(shown.thumbnail), np.array(trained.thumbnail))
    figures = {
        "distance": distance,
        "simulator": {"mean": shown.mean, "std": shown.std},
        "checkpoint": {"mean": trained.mean, "std": trained.std},
    }
    beside = f"training's{against}" if not against else f"the frames recorded{against}"
    said = f"its mean picture lies {distance:.1f} levels (of 255) from {beside}"
    best = min(_causes(camera, frames, seen), key=lambda cause: cause.distance)
    # A few moments are no mean over episodes: what training's frames lay apart is no fault.
    spread = float(np.sqrt(np.mean(np.square(trained.mean_spread))))
    if best.distance < _CLEARLY * distance and distance - best.distance > max(_GAIN, spread):
        words = f"{said}, and {best.distance:.1f} if that is undone"
        yield Finding("pictures", "refused", where, words, best.words, best.fix, figures)
        return
    off = np.subtract(shown.mean, trained.mean)
    limit = np.maximum(_BRIGHTER, _SPREADS * np.array(trained.mean_spread))
    if (np.abs(off) > limit).any():
        yield _brightness(where, shown, trained, float(np.abs(off).max()), figures)
    elif distance > max(_ANOTHER_VIEW, _SPREADS * spread):
        cause = "another camera pose, another scene, or stand-in assets"
        yield Finding("pictures", "warning", where, said, cause, "look at a film of the evaluation", figures)
    else:
        yield Finding("pictures", "passed", where, said, values=figures)


def _brightness(where: str, shown: CameraSeen, trained: CameraSeen, off: float, figures: dict) -> Finding:
    """Colours or brightness that no single cause of `_causes` explains."""
    rgb = [" / ".join(f"{value:.0f}" for value in mean) for mean in (shown.mean, trained.mean)]
    words = f"mean red / green / blue is {rgb[0]} here and {rgb[1]} in training (of 255)"
    darker = np.mean(shown.mean) < np.mean(trained.mean)
    cause = f"another renderer ({'darker' if darker else 'brighter'}), other lights, textures or assets"
    fix = "compare the mujoco version (from 3.3.3 floors render darker) and the asset kind with the recording's"
    verdict = "refused" if off > _MUCH_BRIGHTER else "warning"
    return Finding("pictures", verdict, where, words, cause, fix, figures)


def _causes(camera: str, frames: Mapping[str, np.ndarray], seen: Seen) -> Iterator[_Cause]:
    """Everything that could have befallen the pictures, with the distance left when it is undone."""
    own, trained = frames[camera], np.array(seen.cameras[camera].thumbnail)
    small = np.array(CameraSeen.of(own).thumbnail)
    for words, fix, changed in (
        ("pictures are rotated by 180 degrees", _WAY_UP, small[::-1, ::-1]),
        ("pictures are upside down", _WAY_UP, small[::-1]),
        ("pictures are mirrored", _WAY_UP, small[:, ::-1]),
        ("pictures are turned by 90 degrees", _WAY_UP, np.rot90(small)),
        ("pictures are turned by -90 degrees", _WAY_UP, np.rot90(small, -1)),
        ("channels come as BGR", "give RGB: reverse the last axis once", small[..., ::-1]),
        (
            "pictures are rotated by 180 degrees and come as BGR",
            "give RGB, upright as the protocol has it",
            small[::-1, ::-1, ::-1],
        ),
        ("pictures lie in 0..1 and were cast to bytes", "scale to 0..255 before the cast", small * 255),
    ):
        yield _Cause(words, fix, _apart(changed, trained))
    for share in _SHARES:
        part = f"{share:.0%} of a side"
        fix = "show what training showed: the transforms that travel in the checkpoint, and nothing before them"
        yield _Cause(f"pictures are cropped to the middle {part}", fix, _apart(small, _centre(trained, share)))
        words = f"pictures are whole where training's were the middle {part} (a centre crop is missing)"
        yield _Cause(words, fix, _apart(_centre(small, share), trained))
    for other, figures in seen.cameras.items():
        if other != camera:
            words = f"cameras are swapped: this is what training called {other!r}"
            yield _Cause(
                words, "map each camera to the name it had in training", _apart(small, np.array(figures.thumbnail))
            )


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square difference in levels."""
    return float(np.sqrt(np.mean((one - other) ** 2)))


def _centre(small: np.ndarray, share: float) -> np.ndarray:
    """The middle `share` of each side of a thumbnail, as large as the whole again (bilinear)."""
    at = (np.arange(THUMBNAIL) - (THUMBNAIL - 1) / 2) * share + (THUMBNAIL - 1) / 2
    low = np.floor(at).astype(int).clip(0, THUMBNAIL - 2)
    part = at - low
    rows = small[low] * (1 - part)[:, None, None] + small[low + 1] * part[:, None, None]
    return rows[:, low] * (1 - part)[None, :, None] + rows[:, low + 1] * part[None, :, None]
