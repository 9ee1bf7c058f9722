"""A simulator's process, in whatever Python its pins demand: `python -m eval.engine.child FD`.

It answers one request at a time on the socket it was started with, and ends when the engine does:

    hello  simulator, options, past_success  ->  facts
    reset  slot, case, look                  ->  view
    step   slot, actions | expert, look      ->  now, ever [k], over, steps; view, or readings where it is over
    film   slot, size                        ->  frames, fps

A fault is answered too, as `error` with the kind of exception; the engine decides what to make of it.
Imported in simulators' own environments: numpy, msgpack and the standard library only.
"""

import ctypes
import importlib
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from eval.engine.channel import Channel
from eval.suite import Case, Episode, Simulator, SpentProcess, Success, View

_PR_SET_PDEATHSIG, _SIGKILL = 1, 9


class Playing:
    """One episode with the protocol's rule for its end."""

    def __init__(self, episode: Episode, max_steps: int, past_success: int | None) -> None:
        self.episode, self._max_steps, self._past_success = episode, max_steps, past_success
        self.steps, self.since_success = 0, 0
        self.last = Success(now=False, ever=False)

    @property
    def over(self) -> bool:
        """At the limit, or long enough past the first success."""
        settled = self._past_success is not None and self.last.ever and self.since_success >= self._past_success
        return self.steps >= self._max_steps or settled

    def carry_out(self, action: Callable[[int], np.ndarray], count: int) -> list[Success]:
        """Up to `count` actions, fewer where the episode ends before; what each led to."""
        done: list[Success] = []
        while len(done) < count and not self.over:
            self.since_success += self.last.ever
            now, ever = self.episode.step(action(len(done)))
            self.last = Success(bool(now), self.last.ever or bool(ever))
            self.steps += 1
            done.append(self.last)
        return done


class Server:
    """Answers requests; `slots` are the episodes under way."""

    def __init__(self) -> None:
        self._simulator: Simulator | None = None
        self._past_success: int | None = None
        self._slots: dict[int, Playing] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to one request; what goes wrong is a reply as well."""
        operations = {"hello": self._hello, "reset": self._reset, "step": self._step, "film": self._film}
        try:
            return operations[request["op"]](request)
        except Exception as error:
            traceback.print_exc()
            return {"error": (str(error) or type(error).__name__)[:4000], "kind": _kind(error)}

    def close(self) -> None:
        """Free the simulator."""
        if self._simulator is not None:
            self._simulator.close()

    def _hello(self, request: dict[str, Any]) -> dict[str, Any]:
        module, _, name = request["simulator"].partition(":")
        self._simulator = getattr(importlib.import_module(module), name)(**request["options"])
        assert self._simulator is not None
        self._past_success = request["past_success"]
        return {"facts": self._simulator.facts()}

    def _reset(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._simulator is not None
        self._slots.pop(request["slot"], None)  # its memory is free before the next one is made
        case = Case(**request["case"])
        playing = Playing(self._simulator.episode(case), case.max_steps, self._past_success)
        self._slots[request["slot"]] = playing
        return {"view": _sent(playing.episode.view())} if request["look"] else {}

    def _step(self, request: dict[str, Any]) -> dict[str, Any]:
        playing = self._slots[request["slot"]]
        if (count := request.get("expert")) is not None:
            done = playing.carry_out(lambda _: playing.episode.expert(), count)
        else:
            actions = request["actions"]
            done = playing.carry_out(lambda index: actions[index], len(actions))
        reply: dict[str, Any] = {
            "now": [success.now for success in done],
            "ever": [success.ever for success in done],
            "steps": playing.steps,
            "over": playing.over,
        }
        if playing.over:
            reply["readings"] = playing.episode.readings()
        elif request["look"]:
            reply["view"] = _sent(playing.episode.view())
        return reply

    def _film(self, request: dict[str, Any]) -> dict[str, Any]:
        frames, fps = self._slots[request["slot"]].episode.film(request["size"])
        return {"frames": np.ascontiguousarray(frames), "fps": float(fps)}


def _sent(view: View) -> dict[str, Any]:
    return {"images": dict(view.images), "state": np.asarray(view.state), "instruction": view.instruction}


def _kind(error: Exception) -> str:
    """ValueError (the user's to mend), NotImplementedError (no such expert), SpentProcess, or anything else."""
    kinds = (ValueError, NotImplementedError, SpentProcess)
    return next((kind.__name__ for kind in kinds if isinstance(error, kind)), "Exception")


def _die_with(parent: int) -> None:
    """Have the kernel end this process with the one that started it, even in the middle of a step that hangs."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Serve until the engine closes the connection."""
    _die_with(int(sys.argv[2]))
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    server = Server()
    while True:
        try:
            request = channel.receive()
        except (EOFError, ConnectionError):
            break
        channel.send(server.answer(request))
        sys.stdout.flush()
    server.close()


if __name__ == "__main__":
    main()
