"""What things are called in sub-tasks."""

import re

_KINDS = {
    "akita_black_bowl": "black bowl",
    "flat_stove": "stove",
    "wooden_cabinet": "cabinet",
    "white_cabinet": "cabinet",
    "porcelain_mug": "white mug",
    "white_yellow_mug": "yellow and white mug",
    "red_coffee_mug": "red mug",
    "desk_caddy": "caddy",
    "black_book": "book",
    "yellow_book": "book",
}


def kind_of(name: str) -> str:
    """An instance's category: "plate_1" is a "plate"."""
    return re.sub(r"_\d+$", "", name)


def thing_text(name: str) -> str:
    """With its article: "akita_black_bowl_1" is "the black bowl"."""
    kind = kind_of(name)
    return "the " + _KINDS.get(kind, kind.replace("_", " "))
