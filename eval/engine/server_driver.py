"""Any server that speaks openpi's websocket protocol, ours or not, as the driver of a run.

driver                                  server
  | <-- metadata (msgpack) -----------    |   ours says what it reads; others say what they like
  | --- {image keys, state, prompt} ->    |   one connection an episode under way, so that a server can batch
  | <-- {actions [horizon, width]} ---    |   or a text frame with what is wrong
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from eval.engine.drivers import NO_WEIGHTS, Ask, checked
from eval.suite import Suite, View
from vla.serve.messages import BadRequestError, pack, unpack

TOKEN_VARIABLE = "VLA_SERVE_TOKEN"

# A thread an episode under way, made when it is needed; left to itself the pool has few where cores are few.
_AT_ONCE = 4096

# A server's first chunk may take minutes, where it compiles.
_ANSWER_SECONDS = 600.0
_OPEN_SECONDS = 30.0


@dataclass(frozen=True)
class Keys:
    """What a server calls what it is sent; the defaults are openpi's for LIBERO, and our own server knows them.

    Attributes:
        cameras: Key of a request -> the suite's camera; empty for `observation/CAMERA` each.
        state: Key of the state.
        prompt: Key of the instruction.
    """

    cameras: Mapping[str, str] = field(default_factory=dict)
    state: str = "observation/state"
    prompt: str = "prompt"

    def request(self, view: View) -> dict[str, Any]:
        """A view under the server's names."""
        cameras = self.cameras or {f"observation/{camera}": camera for camera in view.images}
        if missing := sorted(set(cameras.values()) - view.images.keys()):
            raise ValueError(f"cameras: the suite shows no {missing}; it shows {sorted(view.images)}")
        images = {key: view.images[camera] for key, camera in cameras.items()}
        return {**images, self.state: view.state, self.prompt: view.instruction}


class ServerDriver:
    """Asks a server for every chunk; what it answers is checked, and what is wrong with it told in words.

    Args:
        address: ws://HOST:PORT or wss://HOST:PORT. A token in $VLA_SERVE_TOKEN is sent as openpi's client sends one.
        keys: What the server calls what it is sent.
    """

    name = "server"
    looks, batched, scripted = True, True, False

    def __init__(self, address: str, keys: Keys | None = None) -> None:
        self._address, self._keys = address, keys or Keys()
        self._connections: list[ClientConnection] = []
        self._open = ExitStack()
        self.draws = False
        self._checkpoint: str | None = None

    @property
    def checkpoint(self) -> str:
        """SHA-256 of the weights where the server says it, as ours does, else "none"; the server is asked once."""
        if self._checkpoint is None:
            with ExitStack() as briefly:
                told = self._unpacked(self._met(briefly)[1]).get("weights_sha256")
            self._checkpoint = told if isinstance(told, str) else NO_WEIGHTS
        return self._checkpoint

    def begin(self, suite: Suite) -> None:
        """Connect, and compare what the server says of itself with the suite."""
        self._suite = suite
        self._pool = self._open.enter_context(ThreadPoolExecutor(_AT_ONCE))
        metadata = self._connect()
        for name, wanted in (("state_dim", len(suite.state)), ("action_dim", len(suite.action))):
            if (has := metadata.get(name, wanted)) != wanted:
                raise ValueError(
                    f"policy: the server at {self._address} has {name} {has}, {suite.name} {wanted}; it serves a "
                    "policy of another robot"
                )
        keys = metadata.get("keys")
        # openpi's own servers take no seed: what they draw is theirs.
        self.draws = isinstance(keys, dict) and "seed" in keys.get("options", ())

    def _connect(self) -> dict[str, Any]:
        """One connection more; the metadata it was met with."""
        connection, metadata = self._met(self._open)
        self._connections.append(connection)
        return self._unpacked(metadata)

    def _met(self, open_until: ExitStack) -> tuple[ClientConnection, bytes | str]:
        """A connection, and the server's first words on it."""
        token = os.environ.get(TOKEN_VARIABLE)
        headers = {"Authorization": f"Api-Key {token}"} if token else None
        try:
            connection = open_until.enter_context(
                connect(
                    self._address,
                    additional_headers=headers,
                    open_timeout=_OPEN_SECONDS,
                    ping_timeout=None,  # a server may compute for longer than it answers pings
                    close_timeout=1.0,
                    compression=None,
                    max_size=None,
                    proxy=None,
                )
            )
            return connection, connection.recv(_OPEN_SECONDS)
        except (OSError, InvalidHandshake, InvalidURI, ConnectionClosed) as error:
            words = str(error) or type(error).__name__
            raise RuntimeError(
                f"policy: no server answers at {self._address} ({words}); start it, or mend the address"
            ) from error

    def _unpacked(self, message: bytes | str) -> dict[str, Any]:
        if isinstance(message, str):
            raise ValueError(f"the server at {self._address} says: {_last_line(message)}")
        try:
            return unpack(message)
        except BadRequestError as error:
            raise ValueError(f"the server at {self._address} does not speak openpi's protocol: {error}") from error

    def plan(self, asks: Sequence[Ask]) -> list[NDArray[np.float32]]:
        """All asked at once, each over its own connection."""
        while len(self._connections) < len(asks):
            self._connect()
        return list(self._pool.map(self._one, self._connections, asks))

    def _one(self, connection: ClientConnection, ask: Ask) -> NDArray[np.float32]:
        assert ask.view is not None
        request = self._keys.request(ask.view)
        if self.draws:
            request["seed"] = ask.seed
        try:
            connection.send(pack(request))
            answer = self._unpacked(connection.recv(_ANSWER_SECONDS))
        except TimeoutError as error:
            raise RuntimeError(f"the server at {self._address} gave no answer in {_ANSWER_SECONDS:g} s") from error
        except (OSError, ConnectionClosed) as error:
            raise RuntimeError(
                f"the server at {self._address} went away ({error}); start it again and repeat the command, which "
                "goes on where this one stopped"
            ) from error
        if "actions" not in answer:
            raise ValueError(f"the server at {self._address} answered {sorted(map(str, answer))}, without `actions`")
        return checked(answer["actions"], self._suite, f"the server at {self._address}")

    def end(self) -> None:
        """Hang up."""
        self._open.close()
        self._connections.clear()


def _last_line(text: str) -> str:
    """Of a traceback, as openpi's server sends one."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:2000] if lines else "nothing"
