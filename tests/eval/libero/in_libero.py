"""What the tests ask of LIBERO's own Python: run by path there, prints one line of JSON."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eval.libero.assets import ASSETS_VARIABLE
from eval.libero.initial_states import load_initial_states
from eval.libero.simulator import LiberoEpisode, LiberoSimulator
from eval.libero.tasks import TASKS
from eval.libero.upstream import Upstream, load_upstream
from eval.suite import Case

ASSETS = Path(os.environ[ASSETS_VARIABLE])


def simulator() -> LiberoSimulator:
    return LiberoSimulator(str(ASSETS), image_size=256, settle_steps=10, gripper="-1 opens, +1 closes")


def case(suite: str, number: int, init: int) -> Case:
    return Case(suite, TASKS[suite][number], init, seed=7, max_steps=300, options={"resets": init})


def actions(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 7))


LOOKED = 10
"""Every so many steps of a course a view is compared."""


def _reference(upstream: Upstream, suite: str, number: int, trials: int, steps: int) -> dict[str, dict[str, Any]]:
    """LIBERO as openpi's loop runs it: hard resets, its own steps, its own pictures."""
    from libero.libero.envs import OffScreenRenderEnv  # type: ignore[import-not-found]
    from robosuite.utils.transform_utils import quat2axisangle  # type: ignore[import-not-found]

    task = TASKS[suite][number]
    states = load_initial_states(upstream.initial_states / suite / f"{task}.pruned_init")
    path = upstream.bddl / suite / f"{task}.bddl"
    env: Any = OffScreenRenderEnv(bddl_file_name=str(path), camera_heights=256, camera_widths=256)
    env.seed(7)

    def look(seen: dict[str, np.ndarray]) -> dict[str, Any]:
        rotation = quat2axisangle(seen["robot0_eef_quat"].copy())
        return {
            "qpos": env.sim.data.qpos.copy(),
            "qvel": env.sim.data.qvel.copy(),
            "fixtures": env.sim.model.body_pos.copy(),
            "lamps": env.sim.model.site_rgba.copy(),
            "image": seen["agentview_image"][::-1, ::-1].copy(),
            "wrist": seen["robot0_eye_in_hand_image"][::-1, ::-1].copy(),
            "state": np.concatenate([seen["robot0_eef_pos"], rotation, seen["robot0_gripper_qpos"]]),
            "success": np.array(env.check_success()),
        }

    looks = {}
    for init in range(trials):
        env.reset()
        env.set_init_state(states[init])
        for _ in range(10):
            seen, *_ = env.step([0.0] * 6 + [-1.0])
        looks[f"{init} settled"] = look(seen)
        for index, action in enumerate(actions(init, steps)):
            seen, *_ = env.step(action)
            if index % LOOKED == 4:
                looks[f"{init} after {index + 1}"] = look(seen)
    env.close()
    return looks


def _differences(theirs: dict[str, Any], episode: LiberoEpisode) -> list[str]:
    """What of an episode is not, to the bit, as in the reference."""
    view, task = episode.view(), episode.task
    ours = {
        "qpos": task.data.qpos,
        "qvel": task.data.qvel,
        "fixtures": task.model.body_pos,
        "lamps": task.model.site_rgba,
        "image": view.images["image"],
        "wrist": view.images["wrist_image"],
        "success": np.array(task.success()),
    }
    differing = [name for name, value in ours.items() if not np.array_equal(value, theirs[name])]
    # robosuite takes the arc cosine, which is worth 8 digits.
    return differing if np.allclose(view.state, theirs["state"], rtol=0, atol=1e-6) else [*differing, "state"]


def against_upstream(suite: str, number: int, trials: int, steps: int) -> dict[str, Any]:
    """Compare views after settling and on a random course with LIBERO's own; empty lists where equal."""
    # One after the other: robosuite draws into, and frees, whatever OpenGL context is current.
    reference = _reference(load_upstream(ASSETS), suite, number, trials, steps)
    simulators, found = simulator(), {}
    for init in range(trials):
        episode = simulators.episode(case(suite, number, init))
        found[f"{init} settled"] = _differences(reference[f"{init} settled"], episode)
        for index, action in enumerate(actions(init, steps)):
            episode.step(action)
            if index % LOOKED == 4:
                name = f"{init} after {index + 1}"
                found[name] = _differences(reference[name], episode)
    return found


def _course(episode: LiberoEpisode) -> list[np.ndarray]:
    for action in actions(1, 6):
        episode.step(action)
    view = episode.view()
    return [episode.task.data.qpos.copy(), episode.task.data.qvel.copy(), *view.images.values()]


def order(suite: str, number: int) -> bool:
    """Whether a case is the same, played first and played after others that ended in the middle of a grasp."""
    ours = simulator()
    first = _course(ours.episode(case(suite, number, 1)))
    other = ours.episode(case(suite, number, 3))
    for _ in range(8):
        other.step(np.array([0.3, -0.2, -0.9, 0.4, 0, 0.3, 1.0]))
    again = _course(ours.episode(case(suite, number, 1)))
    return all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def ramekin() -> dict[str, float]:
    """Guards on spatial task 5: where the bowl that stands on the ramekin settles, and how bright the floor is."""
    episode = simulator().episode(case("libero_spatial", 5, 0))
    data = episode.task.data
    bowl, under = (data.body(f"{name}_main").xpos for name in ("akita_black_bowl_1", "glazed_rim_porcelain_ramekin_1"))
    picture = episode.view().images["image"]
    return {
        "off_mm": 1000 * float(np.linalg.norm((bowl - under)[:2])),
        "brightness": float(picture.mean()),
        "corner": float(picture[:40, :40].mean()),
    }


def fast() -> dict[str, Any]:
    """The quick ones, in one process."""
    return {
        "against_upstream": against_upstream("libero_spatial", 5, trials=1, steps=5),
        "ramekin": ramekin(),
        "order": order("libero_spatial", 5),
    }


def compiled(suite: str, number: int) -> dict[str, bool]:
    """Whether what resets put back is what the XML says."""
    import mujoco  # type: ignore[import-not-found]

    task = simulator().episode(case(suite, number, 0)).task
    fresh = mujoco.MjModel.from_xml_string(task.env.model.get_xml())
    return {name: np.array_equal(array, getattr(fresh, name)) for name, array in task._pristine.items()}


def replay(suite: str, number: int) -> dict[str, Any]:
    """Play the expert's actions again in a fresh episode of the same case: where success comes, if it does."""
    ours, first = simulator(), 0
    for init in range(4):
        episode, taken = ours.episode(case(suite, number, init)), []
        while len(taken) < 520 and not first:
            taken.append(episode.expert())
            first = len(taken) * episode.step(taken[-1]).now
        if first:
            break
    again = ours.episode(case(suite, number, init))
    successes = [again.step(action).now for action in taken]
    return {"first": first, "again": successes.index(True) + 1 if True in successes else None}


def culling(suite: str, number: int) -> dict[str, int]:
    """Pixels that differ between pictures of what is seen and pictures of everything, over a random course."""
    episode = simulator().episode(case(suite, number, 0))
    differing = 0
    for index, action in enumerate(np.repeat(actions(2, 12), 8, axis=0)):
        episode.step(action)
        if index % 8 == 7:
            for camera in ("image", "wrist_image"):
                drawn = []
                for cull in (True, False):
                    episode.renderer.cull = cull
                    drawn.append(episode.renderer.draw(episode.task.seen.snapshot, camera, 256))
                differing += int((drawn[0] != drawn[1]).any(axis=-1).sum())
    return {"differing": differing}


def main() -> None:
    """NAME and JSON arguments."""
    functions: list[Callable[..., Any]] = [against_upstream, order, ramekin, fast, compiled, replay, culling]
    function = {function.__name__: function for function in functions}[sys.argv[1]]
    sys.stdout.write("\n" + json.dumps(function(*json.loads(sys.argv[2]))) + "\n")


if __name__ == "__main__":
    main()
