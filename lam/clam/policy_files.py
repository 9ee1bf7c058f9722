"""What a policy's model folder holds beside its weights; told apart without importing torch."""

from pathlib import Path

POLICY_FILE = "clam_policy.json"


def is_cloned(folder: Path) -> bool:
    """Whether a model folder holds a policy of `lam.clam`."""
    return (folder / POLICY_FILE).is_file()
