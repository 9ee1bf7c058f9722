"""wxyz or xyzw: no function of ours takes or gives a quaternion without saying in which order its numbers stand."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    *(ROOT / "data_mixtures" / "spaces").glob("*.py"),
    *(ROOT / "data_mixtures" / "readers").glob("*.py"),
    *(ROOT / "eval").rglob("*.py"),
    *(ROOT / "vla").rglob("*.py"),
]
# These look at columns by name, and convert nothing.
ABOUT_COLUMNS = {"check_quaternions", "_of_quaternion"}


def unnamed(source: str) -> list[str]:
    """Functions about quaternions whose name and parameters leave the order open."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or node.name in ABOUT_COLUMNS:
            continue
        words = [node.name, *(one.arg for one in (*node.args.args, *node.args.kwonlyargs))]
        if any("quat" in word for word in words) and not any("wxyz" in word or "xyzw" in word for word in words):
            found.append(node.name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_function_names_the_order(path: Path) -> None:
    assert not unnamed(path.read_text()), "say wxyz or xyzw in the function's name or its parameter's"


def test_one_that_does_not_is_found() -> None:
    assert unnamed("def matrix_from_quaternion(quaternion): ...") == ["matrix_from_quaternion"]
    assert not unnamed("def matrix_from_wxyz(quaternion): ...")
