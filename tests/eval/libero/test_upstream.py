import pytest

from eval.libero.upstream import check_mujoco


@pytest.mark.parametrize("version", ["3.2.3", "3.2.7", "3.3.0", "3.3.2"])
def test_the_mujoco_of_published_numbers_is_taken(version: str) -> None:
    check_mujoco(version)


@pytest.mark.parametrize("version", ["2.3.7", "3.2.2", "3.3.3", "3.4.0", "3.10.1"])
def test_others_are_refused_with_the_reason(version: str) -> None:
    with pytest.raises(RuntimeError, match=rf"mujoco {version} is installed.*vla setup libero"):
        check_mujoco(version)
