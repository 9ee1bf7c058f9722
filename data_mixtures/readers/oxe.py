"""The Open X-Embodiment sets of the mixture, DROID and LIBERO: what their RLDS fields mean, from oxe_sets.yaml."""

import difflib
from functools import cache
from pathlib import Path

import yaml

from data_mixtures.readers.rlds_spec import RldsSpec, spec_from_tree

_TABLE = Path(__file__).parent / "oxe_sets.yaml"


@cache
def oxe_specs() -> dict[str, RldsSpec]:
    """Every known set's spec, by the name of its row."""
    rows = yaml.safe_load(_TABLE.read_text())
    return {name: spec_from_tree(tree, f"{_TABLE.name}: {name}") for name, tree in rows.items()}


@cache
def _by_name() -> dict[str, RldsSpec]:
    return {name: spec for row, spec in oxe_specs().items() for name in (row, *spec.names)}


def find_oxe_spec(builder_name: str) -> RldsSpec | None:
    """The spec of a TFDS builder or its folder; None if it is not known."""
    return _by_name().get(builder_name)


def oxe_spec_for(builder_name: str) -> RldsSpec:
    """The spec of a TFDS builder or its folder, such as "bridge_orig".

    Raises:
        ValueError: no known set is called so.
    """
    spec = find_oxe_spec(builder_name)
    if spec is None:
        near = difflib.get_close_matches(builder_name, _by_name(), n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"spec is {builder_name!r}, which is no known RLDS data set. {hint}Known: {sorted(oxe_specs())}; or give "
            "the path of a YAML file that describes it"
        )
    return spec
