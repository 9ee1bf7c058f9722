"""An observation of the public harness -> what the policy takes, or words on what it should have been.

The names come from the benchmark's row in vla_eval_benchmarks.py, unless the server's options say otherwise. Nothing
is guessed: a camera, state or command that does not fit ends the connection before an episode is spent.
"""

from contextlib import suppress
from typing import Any

import numpy as np

from data_mixtures.spaces.embodiments import Embodiment
from vla.serve.conversation import HangUpError
from vla.serve.messages import BadRequestError, shown
from vla.serve.observations import Keys, Request, RequestReader, Sizes
from vla.serve.vla_eval_benchmarks import STATE_KEYS, UNKNOWN, Benchmark
from vla.serve.vla_eval_columns import Columns
from vla.serve.vla_eval_messages import Picture


class ObservationReading:
    """How one benchmark's observations become requests to one policy.

    Args:
        benchmark: What it sends and takes.
        sizes: Of the policy.
        keys: What was given at the server's start, which goes before what is known of the benchmark.
        robot: Whose columns the policy reads and gives.

    Attributes:
        cameras: The policy's camera -> the benchmark's.
        columns: What its numbers are to the policy.
    """

    def __init__(self, benchmark: Benchmark, sizes: Sizes, keys: Keys, robot: Embodiment | None) -> None:
        self._benchmark, self._sizes, self._keys = benchmark, sizes, keys
        self.columns = Columns(benchmark, sizes, robot)
        self.cameras = {camera: self._key_of(camera) for camera in sizes.cameras}
        self._reader = RequestReader(sizes, Keys(optional=keys.optional, prompt=keys.prompt))

    def _key_of(self, camera: str) -> str:
        given = [key for key, name in self._keys.cameras.items() if name == camera]
        known = [key for key, names in self._benchmark.cameras.items() if camera in names]
        return (given or known or [camera])[0]

    @property
    def asks(self) -> dict[str, Any]:
        """What the benchmark is asked to send; the harness drops with a warning what its class does not know."""
        if self._benchmark is UNKNOWN:
            return {}
        asks = dict(self._benchmark.asks)
        if self._benchmark.state and self._sizes.state_dim:
            asks["send_state"] = True
        if self._benchmark.wrist in self.cameras.values():
            asks["send_wrist_image"] = True
        return asks

    def check(self) -> None:
        """Hang up on a benchmark this policy cannot play, before an episode is spent on it.

        Raises:
            HangUpError: Naming what does not fit, and the option that could mend it.
        """
        there = self._benchmark
        for camera, key in self.cameras.items():
            if there.cameras and key not in there.cameras and camera not in self._keys.optional:
                raise HangUpError(
                    f"{there.name} has the cameras {', '.join(there.cameras)}: --cameras KEY={camera} says which is it"
                )
        if not self._keys.state:
            self.columns.check_state()
        self.columns.check_commands()

    def request(self, payload: dict[Any, Any], seed: int) -> Request:
        """One observation as the policy reads it.

        Raises:
            BadRequestError: What is missing or cannot be read, in the benchmark's names.
        """
        message: dict[str, Any] = {"seed": seed}
        message |= {f"observation/{camera}": picture for camera, picture in self._pictures(payload).items()}
        message["state"] = self._state(payload)
        if "task_description" in payload:
            message["prompt"] = payload["task_description"]
        elif self._keys.prompt is None:
            raise BadRequestError("'task_description' is missing, and the server was started without --prompt")
        return self._reader.read(message)

    def _pictures(self, payload: dict[Any, Any]) -> dict[str, Any]:
        images = payload.get("images")
        if not isinstance(images, dict):
            raise BadRequestError(f"'images' is {shown(images)}; it is a map of cameras to pictures")
        there = {camera: images[key] for camera, key in self.cameras.items() if key in images}
        missing = [camera for camera in self.cameras if camera not in there]
        missing = [camera for camera in missing if camera not in self._keys.optional]
        if missing:
            raise BadRequestError(
                f"the images are {shown(sorted(map(str, images)))}; this policy reads "
                f"{', '.join(f'{self.cameras[camera]!r} as {camera!r}' for camera in missing)} (see --cameras)"
            )
        return {c: image.unpacked() if isinstance(image, Picture) else image for c, image in there.items()}

    def _state(self, payload: dict[Any, Any]) -> Any:
        if self._keys.state:
            return np.concatenate([_row(key, _at(payload, key)) for key in self._keys.state])
        names = (self._benchmark.state,) if self._benchmark.state else STATE_KEYS
        found = [name for name in names if name in payload]
        if len(found) != 1:
            raise BadRequestError(
                f"{'no state is' if not found else f'{found} are'} there; one of {list(names)} is read (see --state)"
            )
        return self.columns.state(_row(found[0], payload[found[0]]))


def _at(payload: dict[Any, Any], path: str) -> object:
    """What lies at "state/joints" of nested maps."""
    value: object = payload
    for part in path.split("/"):
        if not isinstance(value, dict) or part not in value:
            raise BadRequestError(f"the part {path!r} of the state is missing; there are {shown(list(payload))}")
        value = value[part]
    return value


def _row(path: str, value: object) -> np.ndarray:
    if isinstance(value, int | float | list | np.ndarray):
        with suppress(ValueError):  # lists of different lengths
            array = np.atleast_1d(np.asarray(value))
            if array.ndim == 1 and array.dtype.kind in "iuf":
                return array
    raise BadRequestError(f"the state's {path!r} holds {shown(value)}; send a row of numbers")
