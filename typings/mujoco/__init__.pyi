"""MuJoCo's names come from compiled modules that carry no types; its users annotate what they make of them."""

from typing import Any

def __getattr__(name: str) -> Any: ...
