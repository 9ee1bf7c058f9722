"""What must be equal before episodes are averaged, and the refusal in words where it is not."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.results.reading import Played, grouped


def refuse_unequal(episodes: Sequence[Played]) -> None:
    """Refuse to average what is not one measurement: every contestant on every suite and grid must be of one kind.

    Protocol, assets and the quoted reading must be equal, and the checkpoint among episodes with the same labels
    (training seeds differ in theirs). Settings whose first part differs ("visual_matching/...",
    "variant_aggregation/...") are never averaged together, so they may differ.

    Raises:
        ValueError: naming the field, its two values, the files and what to do.
    """
    for members in grouped(episodes, lambda p: (p.contestant, p.row.suite, grid(p))).values():
        _same(members, "assets", [p.row.assets for p in members])
        _same_protocol(members)
        _same(members, "quoted", [p.row.quoted for p in members])
        for same_labels in grouped(members, lambda p: p.train_seed).values():
            _same(same_labels, "checkpoint", [p.row.checkpoint for p in same_labels])


def grid(played: Played) -> str:
    """The grid of a setting: "visual_matching" of "visual_matching/urdf_alt"."""
    return played.row.setting.split("/")[0]


def difference_of(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first field, by name, in which two protocols differ, and its values (None where a side lacks it).

    Where `max_steps` lists tasks, only those of both are compared: a protocol does not change with the tasks played.
    """
    for name in sorted(first.keys() | second.keys()):
        one, other = first.get(name), second.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            if name == "max_steps":
                one, other = ({k: v for k, v in side.items() if k in one and k in other} for side in (one, other))
            if inner := difference_of(one, other):
                return f"{name}.{inner[0]}", inner[1], inner[2]
        elif _listed(one) != _listed(other):
            return name, one, other
    return None


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _same_protocol(members: Sequence[Played]) -> None:
    first = members[0]
    for other in members:
        if found := difference_of(first.row.protocol_json, other.row.protocol_json):
            raise ValueError(_refusal(f"protocol.{found[0]}", found[1], found[2], first, other))


def _same(members: Sequence[Played], field: str, values: Sequence[Any]) -> None:
    for played, value in zip(members, values, strict=True):
        if value != values[0]:
            raise ValueError(_refusal(field, values[0], value, members[0], played))


_REMEDY = {
    "assets": "pictures of other assets are another benchmark",
    "checkpoint": "other weights are another policy: give it another name or another `train_seed`",
    "quoted": "readings are not mixed",
}


def _refusal(field: str, one: Any, other: Any, first: Played, second: Played) -> str:
    why = _REMEDY.get(field, "numbers of unequal protocols are not comparable")
    return (
        f"{first.contestant} on {first.row.suite}: {field} is {one!r} in {first.file} and {other!r} in {second.file}; "
        f"these are never averaged ({why}). Give `vla report` one of the two, or play them again alike."
    )
