"""The public evaluation harness's protocol: its benchmarks run against our policies as against its own servers.

    client (a benchmark)                server
      | --- hello {benchmark} -------->   |   which benchmark: its cameras, state and actions are looked up
      | <-- hello {observation_params} -  |   what it is to send; or the connection ends with what does not fit
      | --- episode_start {task} ------>  |   the chunk under way is dropped, the noise follows from the task
      | --- observation -------------->   |   answered from the chunk, or by a forward where that is used up
      | <-- action {actions} ----------   |   one action [action_dim]
      | --- episode_end -------------->   |

The client asks for an action at every step; the chunk lives here, and with it how much of it is carried out.
"""

import asyncio
import hashlib
import json
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_mixtures.spaces.embodiments import Embodiment
from vla.serve.conversation import HangUpError, Infer
from vla.serve.messages import BadRequestError, shown
from vla.serve.observations import Keys, RequestReader, Sizes
from vla.serve.vla_eval_benchmarks import BENCHMARKS, KINDS, UNKNOWN, Benchmark, folder_of
from vla.serve.vla_eval_messages import VERSION, read, write
from vla.serve.vla_eval_observations import ObservationReading

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpisodeRules:
    """What of an episode is the server's to decide.

    Attributes:
        execute: Actions of each chunk carried out before the policy is asked again; None leaves it to the
            benchmark's protocol, or takes the whole chunk where that says nothing.
        seed: The noise follows from it, the task, the episode's number and the step: another seed, another draw.
        benchmark: One of `BENCHMARKS`, where what a client says of itself is not enough or is not to decide.
    """

    execute: int | None = None
    seed: int = 0
    benchmark: str | None = None

    def __post_init__(self) -> None:
        if self.benchmark is not None and self.benchmark not in BENCHMARKS:
            raise ValueError(f"benchmark is {self.benchmark!r}; those known are {', '.join(BENCHMARKS)}")
        if self.execute is not None and self.execute < 1:
            raise ValueError(f"execute is {self.execute}; it must be at least 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; it must be from 0 to 2**63 - 1")


class VlaEvalConversation:
    """What the harness speaks; see `vla.serve.conversation.Conversation`.

    Args:
        sizes: Of the policy.
        keys: `cameras` maps the benchmark's names to the policy's; `state` names the keys that together are the state.
        rules: Of each episode.
        robot: Whose columns the policy reads and gives; None where they are those of the unified spaces.
        facts: What the harness keeps in its results beside ours: the checkpoint, versions; JSON values.

    Raises:
        ValueError: The policy's chunk is shorter than what is to be carried out of it.
    """

    greeting: bytes | None = None

    def __init__(
        self,
        sizes: Sizes,
        keys: Keys,
        rules: EpisodeRules,
        robot: Embodiment | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        if rules.execute is not None and rules.execute > sizes.horizon:
            raise ValueError(f"execute is {rules.execute}, but a chunk of this policy has {sizes.horizon} actions")
        self.sizes, self.prompt = sizes, keys.prompt
        self.rules, self.facts = rules, dict(facts or {})
        self._keys, self._robot = keys, robot
        RequestReader(sizes, keys)  # its words on cameras that are not there, at the start

    def session(self) -> "VlaEvalSession":
        """For one client, which plays one episode after the other."""
        return VlaEvalSession(self)

    def benchmark_of(self, import_string: object) -> Benchmark:
        """What a client plays.

        Raises:
            HangUpError: Another benchmark than the server was started for, or one of several robots.
        """
        folder, chosen = folder_of(import_string), self.rules.benchmark
        kinds = KINDS.get(folder or "", ())
        if chosen is not None:
            if folder not in (None, chosen) and chosen not in kinds:
                raise HangUpError(f"this server was started with --benchmark {chosen}, the client plays {folder}")
            return BENCHMARKS[chosen]
        if kinds:
            raise HangUpError(f"{folder} has several robots: start the server with --benchmark {' or '.join(kinds)}")
        return UNKNOWN if folder is None else BENCHMARKS[folder]

    def reading(self, benchmark: Benchmark) -> ObservationReading:
        """How that benchmark's observations are read."""
        return ObservationReading(benchmark, self.sizes, self._keys, self._robot)

    def execute(self, benchmark: Benchmark) -> int:
        """Actions of each chunk that are carried out there."""
        return self.rules.execute or min(benchmark.execute or self.sizes.horizon, self.sizes.horizon)


class VlaEvalSession:
    """See `vla.serve.conversation.Session`."""

    def __init__(self, conversation: VlaEvalConversation) -> None:
        self._conversation = conversation
        self._reading = conversation.reading(UNKNOWN)
        self._execute = conversation.execute(UNKNOWN)
        self._seq = 0
        self._episode: str | None = None  # what its noise follows from; None between episodes
        self._trouble = "no episode is under way: episode_start comes first"
        self._calls = 0
        self._chunk: deque[np.ndarray] = deque()

    async def reply(self, message: bytes | str, infer: Infer, previous_s: float | None) -> bytes | None:
        """An action for an observation, a hello for a hello, nothing for the rest."""
        self._seq = 0
        heard = read(message)
        self._seq = heard.seq
        if heard.kind == "hello":
            return write("hello", self._hello(heard.payload), heard.seq)
        if heard.kind == "observation":
            return write("action", {"actions": await self._action(heard.payload, infer)}, heard.seq)
        if heard.kind == "episode_start":
            self._start(heard.payload)
        elif heard.kind == "episode_end":
            self._end("no episode is under way: episode_start comes first")
        else:
            _log.warning("a client reports an error: %s", shown(heard.payload))
        return None

    def refusal(self, words: str) -> bytes | str:
        """An error message, which the harness's client raises and its results keep as the episode's failure."""
        return write("error", {"error": words}, self._seq)

    def _hello(self, payload: dict[Any, Any]) -> dict[str, Any]:
        version = payload.get("protocol_version")
        if version != VERSION:
            raise HangUpError(f"this server speaks vla-eval's protocol {VERSION}, not {shown(version)}")
        benchmark = self._conversation.benchmark_of(payload.get("benchmark"))
        self._end("no episode is under way: episode_start comes first")
        self._reading = self._conversation.reading(benchmark)
        self._reading.check()
        self._execute = self._conversation.execute(benchmark)
        _log.info("plays %s, %d actions of each chunk", benchmark.name, self._execute)
        return {
            "protocol_version": VERSION,
            "model_server": "vla",
            "capabilities": {},
            "observation_params": self._reading.asks,
            "vla": {
                **self._conversation.facts,
                "execute": self._execute,
                "horizon": self._conversation.sizes.horizon,
                "seed": self._conversation.rules.seed,
                "cameras": dict(self._reading.cameras),
            },
        }

    def _start(self, payload: dict[Any, Any]) -> None:
        # Nothing answers an episode's start: an error sent now would be taken for the first observation's answer.
        self._end("")
        if payload.get("mode", "sync") != "sync":
            self._trouble = f"this server plays `mode: sync`, not {shown(payload['mode'])}"
            return
        try:
            self._episode = json.dumps(payload.get("task", {}), sort_keys=True, default=repr)
        except (TypeError, ValueError, RecursionError):  # keys that are no text; the harness's are
            self._trouble = f"the task is {shown(payload['task'])}; it is a map of names to values"

    def _end(self, trouble: str) -> None:
        self._episode, self._trouble = None, trouble
        self._calls = 0
        self._chunk.clear()

    async def _action(self, payload: dict[Any, Any], infer: Infer) -> np.ndarray:
        """float32 [action_dim]: the next of the chunk under way, or the first of a new one."""
        if self._episode is None:
            raise BadRequestError(self._trouble)
        if payload.get("episode_restart"):  # CALVIN: the next sub-task's instruction, the same episode
            self._chunk.clear()
        if not self._chunk:
            # Off the loop: pictures take milliseconds to unpack, and other clients wait.
            seed = noise_seed(self._conversation.rules.seed, self._calls, self._episode)
            request = await asyncio.to_thread(self._reading.request, payload, seed)
            answer = await infer(request)
            self._calls += 1
            self._chunk.extend(self._reading.columns.commands(answer.actions[: self._execute]))
        return self._chunk.popleft()


def noise_seed(seed: int, call: int, episode: str) -> int:
    """What a chunk's noise follows from, 0 to 2**63 - 1: the server's seed, the chunk's number, the episode's task."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{call}/{episode}".encode()).digest()[:8], "big") >> 1
