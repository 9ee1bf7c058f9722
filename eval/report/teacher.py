"""The teacher: what it predicts, and the health of its latents."""

from typing import Any

import numpy as np
from markupsafe import Markup

from eval.report.markup import fill, join, missing, number, section, share, table
from eval.report.media import picture
from eval.report.run_folder import Run, Step

_STRIPS = 6
_STREAMS = ("scene", "motion")

# What the known numbers mean (the others are shown under their own names).
_MEANING = {
    "reconstruction_ratio_one_step": (
        "Reconstruction error, one decoding step",
        "error of the predicted future frame ÷ error of copying the current one; below 1 beats copying",
    ),
    "reconstruction_ratio_sampled": (
        "Reconstruction error, fully sampled",
        "the same ratio with every sampling step",
    ),
    "effective_rank": ("Effective rank", "directions the tokens really use; near 1 is a collapse"),
    "probe_r2": ("Probe R² to the true actions", "held-out R² of a linear probe; motion should win"),
    "probe_r2_objects": ("Probe R² to object motion", "held-out R² of a linear probe"),
    "variance": ("Mean variance", "over the feature dimensions; 0 is a collapse"),
    "relative_variance": ("Variance ÷ mean square", "0 is a collapse: every window gets the same tokens"),
    "variance_min": ("Smallest variance", "of any feature dimension"),
    "num_values": ("Values in all", "tokens × width"),
    "swap_moves_like_donor": (
        "Swap test",
        "share of windows that, given these tokens of another window, are predicted to change as that one does",
    ),
    "swap_background_kept": ("Swap test, background kept", "share of the still pixels left alone by such a swap"),
    "copy_error": ("Error of copying the current frame", "mean square, pixels from 0 to 1"),
    "one_step_error": ("Error of the prediction, one decoding step", ""),
    "sampled_error": ("Error of the prediction, fully sampled", ""),
    "flow_action_error": (
        "Error of the unified decoder's actions",
        "one decoding step, normalised actions ÷ error of always giving their mean; below 1 beats it",
    ),
    "grounded_action_error": ("Error of the action decoder's actions", "the same ratio, from the motion tokens alone"),
    "probe_r2_both": ("Probe R² to the true actions, all tokens", "held-out R² of a linear probe"),
}


def pictures_section(run: Run) -> Markup:
    """Current, predicted and true future frame side by side."""
    title = "What the teacher predicts"
    found = ((step, run.arrays(step.folder / "pictures.npz")) for step in run.of_kind("lam"))
    for step, arrays in found:
        if arrays is not None and (why := _unusable(arrays)):
            run.problems.append(f"{step.name}/pictures.npz: {why}")
        elif arrays is not None:
            return _pictures(step, arrays, title)
    return section("teacher", title, missing(run.absence("predicted frames", "lam")))


def _unusable(arrays: dict[str, np.ndarray]) -> str:
    names = ("current", "predicted", "true")
    if absent := [n for n in names if n not in arrays]:
        return f"lacks {', '.join(absent)}."
    shapes = {arrays[n].shape for n in names}
    shape = arrays["true"].shape
    if len(shapes) > 1 or len(shape) != 4 or shape[-1] != 3 or 0 in shape:
        return f"needs three arrays [n, H, W, 3] of one shape, has {sorted(shapes)}."
    return ""


def _pictures(step: Step, arrays: dict[str, np.ndarray], title: str) -> Markup:
    total = len(arrays["true"])
    chosen = np.unique(np.linspace(0, total - 1, min(total, _STRIPS)).round().astype(int))
    captions = arrays.get("captions", np.zeros(0, str))
    strips = [_strip(arrays, int(i), str(captions[i]) if i < len(captions) else "") for i in chosen]
    taken = (
        "all there are" if len(chosen) == total else f"{len(chosen)} of {total}, evenly spaced, not chosen otherwise"
    )
    note = f"Held-out windows of “{step.title}”: {taken}. Ratio: squared pixel error of this picture ÷ that of copying."
    return section("teacher", title, fill('<div class="strips">{s}</div>', s=join(strips)), note=note)


def _strip(arrays: dict[str, np.ndarray], index: int, caption: str) -> Markup:
    frames = [(name, arrays[name][index]) for name in ("current", "predicted", "true")]
    cells = join(
        fill("<span>{p}<em>{n}</em></span>", p=picture(frame, f"{name} frame"), n=_FRAME_WORDS[name])
        for name, frame in frames
    )
    return fill(
        '<figure class="strip3"><div>{c}</div><figcaption>{t} <span class="ratio">{r}</span></figcaption></figure>',
        c=cells,
        t=caption,
        r=_ratio(*(frame.astype(float) for _, frame in frames)),
    )


_FRAME_WORDS = {"current": "current", "predicted": "predicted future", "true": "true future"}


def _ratio(current: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> str:
    copying = float(((current - true) ** 2).mean())
    if copying == 0:
        return "nothing moved"
    return f"ratio {share(float(((predicted - true) ** 2).mean()) / copying)}"


def health_section(run: Run) -> Markup:
    """Every number of health.json: scene beside motion where both are there, then the others."""
    title = "Health of the latents"
    read = [(step, run.json(step.folder / "health.json")) for step in run.of_kind("lam")]
    runs = [(step, values) for step, values in read if isinstance(values, dict)]
    if not runs:
        return section("health", title, missing(run.absence("health figures of the latents", "lam")))
    bases = [b for b in dict.fromkeys(_base(k) for _, v in runs for k in v) if b]
    singles = [k for k in dict.fromkeys(k for _, v in runs for k in v) if not _base(k) or _base(k) not in bases]
    ordered = sorted(singles, key=lambda k: k not in _MEANING)
    head = ["", *(step.title for step, _ in runs)]
    other = (
        table(head, [[_name(k), *(_value(v.get(k)) for _, v in runs)] for k in ordered], "plain")
        if ordered
        else Markup()
    )
    pairs = join(_pair(base, runs) for base in bases)
    note = f"In this order: {', '.join(step.title for step, _ in runs)}." if len(runs) > 1 else ""
    return section("health", title, _readings(runs), fill('<div class="pairs">{p}</div>', p=pairs), other, note=note)


def _base(key: str) -> str:
    """`probe_r2` of `probe_r2_scene`; '' where the key belongs to neither stream."""
    return next((key.removesuffix(f"_{s}") for s in _STREAMS if key.endswith(f"_{s}")), "")


def _pair(base: str, runs: list[tuple[Step, dict[str, Any]]]) -> Markup:
    """One measure: for scene and for motion a bar in every teacher."""
    by_stream = {stream: [v.get(f"{base}_{stream}") for _, v in runs] for stream in _STREAMS}
    known = [v for values in by_stream.values() for v in _reals(values)]
    top = max([*known, 1.0 if base.startswith("probe_r2") else 1e-9])
    rows = [
        fill(
            '<div class="gauge {s}"><span>{s}</span><div>{bars}</div><b>{v}</b></div>',
            s=stream,
            bars=join(fill('<i style="--w:{w:.2f}%"></i>', w=100 * max(v, 0) / top) for v in _reals(values)),
            v=", ".join(_value(v) for v in values),
        )
        for stream, values in by_stream.items()
    ]
    return fill('<div class="pair"><h4>{n}</h4>{r}</div>', n=_name(base), r=join(rows))


def _readings(runs: list[tuple[Step, dict[str, Any]]]) -> Markup:
    """What the two questions everybody asks come out as."""
    sentences = []
    ratios = [v["reconstruction_ratio_one_step"] for _, v in runs if _real(v.get("reconstruction_ratio_one_step"))]
    if ratios:
        beats = "beats" if max(ratios) < 1 else "does not beat"
        sentences.append(f"Reconstruction {beats} copying the current frame ({_all(ratios)} of its error).")
    probes = [
        (v["probe_r2_motion"], v["probe_r2_scene"])
        for _, v in runs
        if _real(v.get("probe_r2_motion")) and _real(v.get("probe_r2_scene"))
    ]
    if probes:
        wins = sum(m > s for m, s in probes)
        where = f" in {wins} of {len(probes)} teachers" if len(probes) > 1 else ""
        verb = "predict" if wins or len(probes) > 1 else "do not predict"
        sentences.append(
            f"Motion tokens {verb} the true actions better than scene tokens{where} "
            f"(R² {_all([m for m, _ in probes])} against {_all([s for _, s in probes])})."
        )
    return fill('<p class="reading">{s}</p>', s=" ".join(sentences)) if sentences else Markup()


def _all(values: list[float]) -> str:
    return ", ".join(share(v) for v in values)


def _reals(values: list[Any]) -> list[float]:
    return [float(v) for v in values if _real(v)]


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(number(v) for v in value[:8]) + (f", … ({len(value)})" if len(value) > 8 else "")
    return "–" if value is None else number(value)


def _name(key: str) -> Markup:
    label, meaning = _MEANING.get(key, (key.replace("_", " "), ""))
    return fill("{l}<small>{m}</small>", l=label, m=meaning) if meaning else fill("{l}", l=label)
