import numpy as np
import pytest

from eval.libero.view_volume import Boxes, ViewVolume, Window

_FOVY = 60.0


def _rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def _scene(seed: int, count: int = 400) -> tuple[ViewVolume, Boxes, np.ndarray]:
    """A camera, boxes around it, and points of each box [n, k, 3]."""
    rng = np.random.default_rng(seed)
    camera = ViewVolume.of_camera(rng.normal(size=3), _rotation(rng).reshape(9), _FOVY)
    position = rng.normal(size=(count, 3)) * 2
    rotation = np.stack([_rotation(rng) for _ in range(count)])
    aabb = np.concatenate([rng.normal(size=(count, 3)) * 0.3, rng.uniform(0, 0.5, (count, 3))], axis=1)
    boxes = Boxes.of_geoms(position, rotation.reshape(count, 9), aabb)
    local = aabb[:, None, :3] + aabb[:, None, 3:] * rng.uniform(-1, 1, (count, 200, 3))
    return camera, boxes, position[:, None] + np.einsum("nij,nkj->nki", rotation, local)


def _seen(camera: ViewVolume, points: np.ndarray) -> np.ndarray:
    """Which points a camera sees, from its definition."""
    right, up, depth = np.moveaxis((points - camera.position) @ camera.axes.T, -1, 0)
    half = np.tan(np.radians(_FOVY / 2))
    return (depth > 0) & (np.abs(right) < depth * half) & (np.abs(up) < depth * half)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_has_a_visible_point_is_kept(seed: int) -> None:
    camera, boxes, points = _scene(seed)
    visible = _seen(camera, points).any(axis=1)
    kept = camera.meets(boxes)
    assert visible.sum() > 10
    assert not (visible & ~kept).any()
    # And it is not because everything is kept.
    assert kept.sum() < 2 * visible.sum()


def test_reflections_are_those_of_a_mirror() -> None:
    camera, boxes, points = _scene(7)
    normal = np.array([0.6, 0.0, 0.8])
    point = np.array([0.2, -0.1, 0.3])
    mirrored = points - 2 * ((points - point) @ normal)[..., None] * normal
    kept = camera.meets(boxes.reflected(point, normal))
    visible = _seen(camera, mirrored).any(axis=1)
    assert visible.sum() > 30
    assert not (visible & ~kept).any()
    assert kept.sum() < 2 * visible.sum()


def test_a_window_is_where_the_points_are_drawn() -> None:
    # Looking along +x, up is +z: right is -y.
    camera = ViewVolume.of_camera(np.zeros(3), np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0]], float).reshape(9), 90.0)
    window = camera.window(np.array([[1.0, -0.5, 0.0], [1.0, -0.25, 0.75]]), 100)
    assert window == Window(rows=slice(48, 90), columns=slice(60, 77))
    assert camera.window(np.array([[1.0, 0, 0], [-1.0, 0, 0]]), 100) is None


def test_a_part_sees_what_its_window_shows() -> None:
    camera, boxes, points = _scene(11)
    window = Window(rows=slice(10, 40), columns=slice(50, 90))
    right, up, depth = np.moveaxis((points - camera.position) @ camera.axes.T, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        column = (right / (depth * np.tan(np.radians(_FOVY / 2))) + 1) * 50
        row = (up / (depth * np.tan(np.radians(_FOVY / 2))) + 1) * 50
    visible = ((depth > 0) & (row > 10) & (row < 40) & (column > 50) & (column < 90)).any(axis=1)
    kept = camera.part(window, 100).meets(boxes)
    assert visible.sum() > 10
    assert not (visible & ~kept).any()
    assert kept.sum() < 2.5 * visible.sum()
