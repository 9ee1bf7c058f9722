import pytest

from tests.eval.preflight.trained import Toy, make_toy


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Demonstrations of the faultless toy, and what was trained on them."""
    return make_toy(tmp_path_factory.mktemp("toy"))
