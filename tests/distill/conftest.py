"""Lets the tests here import the students the model's tests use."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "vla" / "models" / "pi05"))
