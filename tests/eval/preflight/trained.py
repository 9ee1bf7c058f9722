"""The toy's demonstrations on disk, checkpoints trained on them, and a preflight that needs no second process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from data_mixtures.batch import Batch
from data_mixtures.lerobot.writer import LeRobotWriter
from data_mixtures.spaces.arm_columns import Gripper, Position, Rotation
from data_mixtures.spaces.embodiments import Arm, ArmAction, Embodiment
from data_mixtures.spaces.recorded_columns import RecordedColumns
from data_mixtures.statistics.normalisation import Normalisation, Quantiles
from data_mixtures.statistics.seen import Seen
from eval.engine.child import Server
from eval.engine.replies import answer_of
from eval.preflight.checkpoint import Checkpoint
from eval.preflight.findings import Finding, Report
from eval.preflight.playing import Player
from eval.preflight.preflight import PreflightConfig, preflight
from tests.eval.preflight.toy import RATE_HZ, SIZE, ToySimulator, ToySuite, played

DEMONSTRATIONS = 24
HALF_OPEN = np.array([1, 1, 1, 1, 1, 1, 0.6], dtype=np.float32)

UNIFIED = Embodiment(
    robot_type="toy",
    left=Arm(
        position=Position([0, 1, 2]),
        rotation=Rotation("axis_angle", [3, 4, 5]),
        gripper=Gripper(index=6, open=1.0, closed=0.0),
        action=ArmAction(
            "delta",
            Position([0, 1, 2], scale=0.05),
            Rotation("axis_angle", [3, 4, 5], scale=0.5),
            Gripper(index=6, open=-1.0, closed=1.0),
        ),
    ),
    action_range=[-1.0, 1.0],
)
RECORDED = Embodiment(robot_type="toy", recorded=RecordedColumns(list(range(7)), list(range(7))))


@dataclass(frozen=True)
class Toy:
    """Demonstrations of the faultless toy, and what was trained on them."""

    folder: Path
    recorded: Checkpoint
    unified: Checkpoint
    actions: np.ndarray

    def preflight(
        self,
        suite: ToySuite | None = None,
        checkpoint: Checkpoint | None = None,
        demonstrations: bool | Literal["half open"] = True,
    ) -> Report:
        name = "half-open" if demonstrations == "half open" else "data"
        folder = self.folder / name if demonstrations else None
        chosen = self.recorded if checkpoint is None else checkpoint
        return preflight(
            suite or ToySuite(), chosen, PreflightConfig(demonstrations=folder, episodes=6), "toy", in_process
        )


@contextmanager
def in_process(suite: Any, timeout_s: float) -> Iterator[Player]:
    """The engine's own child, without the process: the same requests, the same answers."""
    server = Server()
    server._simulator, server._past_success = ToySimulator(**suite.options), suite.past_success

    def ask(request: dict[str, Any]) -> Any:
        reply = server.answer(request)
        assert "error" not in reply, reply
        return answer_of(reply, request["op"], request["look"], len(suite.state))

    yield Player(ask, server._simulator.facts())


def _record(folder: Path, episodes: list[tuple[list[Any], np.ndarray]]) -> None:
    writer = LeRobotWriter(
        folder,
        fps=RATE_HZ,
        robot_type="toy",
        cameras=dict.fromkeys(("front", "wrist"), (SIZE, SIZE)),
        features={"observation.state": 7, "action": 7},
    )
    for seed, (views, actions) in enumerate(episodes):
        writer.add_episode(
            frames={name: np.stack([view.images[name] for view in views]) for name in ("front", "wrist")},
            columns={"observation.state": np.stack([view.state for view in views]), "action": actions},
            task="lift the block",
            info={"environment": "lift", "seed": 1000 + seed, "init": 1000 + seed, "success": True},
        )
    writer.finish()


def _checkpoint(robot: Embodiment, episodes: list[tuple[list[Any], np.ndarray]]) -> Checkpoint:
    states = robot.to_unified_state(np.concatenate([[view.state for view in views] for views, _ in episodes]))
    actions = robot.to_unified_action(np.concatenate([actions for _, actions in episodes]))
    masks = (np.broadcast_to(mask, of.shape) for mask, of in ((robot.state_mask, states), (robot.action_mask, actions)))
    state, action = (Quantiles.of(of, mask) for of, mask in zip((states, actions), masks, strict=True))
    return Checkpoint(
        name="toy",
        cameras=("front", "wrist"),
        horizon=16,
        normalisation=Normalisation(state, action, robot.space),
        robot=robot,
        frame_size=SIZE,
        seen=_seen(episodes),
    )


def _seen(episodes: list[tuple[list[Any], np.ndarray]]) -> Seen:
    views = [view for shown, _ in episodes for view in shown]
    images = np.stack([[view.images[name] for name in ("front", "wrist")] for view in views])
    count = len(views)
    batch = Batch(
        images=torch.from_numpy(images).permute(0, 1, 4, 2, 3)[:, None],
        camera_mask=torch.ones(count, 2, dtype=torch.bool),
        state=torch.zeros(count, 46),
        state_mask=torch.zeros(count, 46, dtype=torch.bool),
        actions=torch.zeros(count, 1, 44),
        action_mask=torch.zeros(count, 1, 44, dtype=torch.bool),
        instruction=[""] * count,
        subtask=[""] * count,
        sample_ids=torch.arange(count),
    )
    return Seen.of([batch], ("front", "wrist"), [RATE_HZ])


def make_toy(folder: Path) -> Toy:
    """Record demonstrations into a folder, and train on them."""
    episodes = [played(1000 + seed) for seed in range(DEMONSTRATIONS)]
    _record(folder / "data", episodes)
    _record(folder / "half-open", [(views, np.clip(actions, -1, HALF_OPEN)) for views, actions in episodes[:6]])
    actions = np.concatenate([actions for _, actions in episodes])
    return Toy(folder, _checkpoint(RECORDED, episodes), _checkpoint(UNIFIED, episodes), actions)


def refused(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.verdict == "refused"]


def words(report: Report) -> str:
    return "\n".join(f"{finding.verdict}: {finding.check}: {finding}" for finding in report.findings)
