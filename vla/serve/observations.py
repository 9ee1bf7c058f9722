"""What a robot sends under its own names -> what the policy takes, or words on what it should have sent.

openpi's robots do not agree on names: LIBERO sends "observation/image", DROID "observation/exterior_image_1_left" and
its state in two parts, ALOHA nested "images" and "state". A table given at the server's start settles what the names
leave open; the rest is found by the camera's own name. Nothing is guessed: a policy that is shown the wrong camera
moves a robot all the same.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla.policy import Committed, Observation
from vla.serve.frames import rgb_frame
from vla.serve.messages import BadRequestError, shown

STATE_KEYS = ("observation/state", "state", "observation.state")
PROMPT_KEYS = ("prompt", "task")
OPTION_KEYS = ("seed", "committed", "frozen")
_MAX_PROMPT = 2_000
_MAX_DEPTH = 4


@dataclass(frozen=True)
class Request:
    """One observation to act on; `seed` None leaves the noise to the server."""

    observation: Observation
    seed: int | None = None
    committed: Committed | None = None


@dataclass(frozen=True)
class Keys:
    """The table given at the server's start.

    Attributes:
        cameras: Key of a request -> camera of the policy; cameras not named here are found by their own names.
        state: Keys whose numbers, one after the other, are the state; empty for the usual ones.
        optional: Cameras that a request may leave out.
        ignored: Keys a request may hold that nothing reads.
        prompt: What is asked of the robot when a request does not say.
    """

    cameras: Mapping[str, str] = field(default_factory=dict)
    state: Sequence[str] = ()
    optional: Iterable[str] = ()
    ignored: Iterable[str] = ()
    prompt: str | None = None


@dataclass(frozen=True)
class Sizes:
    """What of a policy a request is measured against: see `vla.policy.Policy`."""

    cameras: tuple[str, ...]
    state_dim: int
    action_dim: int
    horizon: int


class RequestReader:
    """Reads requests for one policy under one table of keys."""

    def __init__(self, sizes: Sizes, keys: Keys | None = None) -> None:
        self.sizes = sizes
        self.keys = keys or Keys()
        self._check_table()
        self.camera_keys = {camera: self._keys_of(camera) for camera in sizes.cameras}
        used = [key for accepted in self.camera_keys.values() for key in accepted]
        self._known = {*used, *(self.keys.state or STATE_KEYS), *PROMPT_KEYS, *OPTION_KEYS, *self.keys.ignored}

    def _check_table(self) -> None:
        known = list(self.sizes.cameras)
        named = list(self.keys.cameras.values())
        for camera in [*named, *self.keys.optional]:
            if camera not in known:
                raise ValueError(f"cameras: the policy has no camera {camera!r}; it looks through {known}")
        twice = {camera for camera in named if named.count(camera) > 1}
        if twice:
            raise ValueError(f"cameras: {sorted(twice)} are given two keys each; a camera has one")

    def _keys_of(self, camera: str) -> tuple[str, ...]:
        given = tuple(key for key, name in self.keys.cameras.items() if name == camera)
        usual = (camera, f"observation/{camera}", f"images/{camera}", f"observation.images.{camera}")
        return given or tuple(key for key in usual if key not in self.keys.cameras)

    @property
    def expected(self) -> dict[str, Any]:
        """The keys a request may hold: sent to every client, and part of every complaint about keys."""
        return {
            "cameras": {camera: list(accepted) for camera, accepted in self.camera_keys.items()},
            "optional_cameras": sorted(self.keys.optional),
            "state": [" + ".join(self.keys.state)] if self.keys.state else list(STATE_KEYS),
            "prompt": list(PROMPT_KEYS),
            "options": list(OPTION_KEYS),
        }

    def read(self, message: Mapping[Any, Any]) -> Request:
        """A request's message as an observation and its options.

        Raises:
            BadRequestError: A key that is missing, unknown or there twice, or a value that no policy could read.
        """
        flat = _flat(message)
        unknown = [key for key in flat if key not in self._known]
        if unknown:
            raise BadRequestError(f"unknown keys {shown(unknown)}; {self._expected_words()}")
        observation = Observation(images=self._images(flat), state=self._state(flat), instruction=self._prompt(flat))
        return Request(observation, _seed(flat), self._committed(flat))

    def _images(self, flat: dict[str, Any]) -> dict[str, np.ndarray]:
        images = {}
        for camera, accepted in self.camera_keys.items():
            key = self._one_of(flat, accepted, f"the camera {camera!r}", needed=camera not in self.keys.optional)
            if key is not None:
                images[camera] = rgb_frame(key, flat[key])
        if not images:
            raise BadRequestError(f"no image; {self._expected_words()}")
        return images

    def _one_of(self, flat: dict[str, Any], accepted: Sequence[str], what: str, needed: bool) -> str | None:
        found = [key for key in accepted if key in flat]
        if len(found) > 1:
            raise BadRequestError(f"{what} is there twice, as {shown(found)}: send one")
        if not found and needed:
            raise BadRequestError(f"{what} is missing; {self._expected_words()}")
        return found[0] if found else None

    def _expected_words(self) -> str:
        cameras = "; ".join(f"{c!r} as {' or '.join(map(repr, keys))}" for c, keys in self.camera_keys.items())
        state = " and ".join(map(repr, self.keys.state)) or " or ".join(map(repr, STATE_KEYS))
        return f"this server reads the cameras {cameras}; the state as {state}; the instruction as 'prompt'"

    def _state(self, flat: dict[str, Any]) -> np.ndarray:
        if self.keys.state:
            used = [self._one_of(flat, [key], f"the part {key!r} of the state", needed=True) for key in self.keys.state]
        else:
            used = [self._one_of(flat, STATE_KEYS, "the state", needed=True)]
        state = np.concatenate([_numbers(key, flat[key], 1) for key in used if key is not None])
        if len(state) != self.sizes.state_dim:
            raise BadRequestError(f"the state has {len(state)} numbers; this policy's robot has {self.sizes.state_dim}")
        return state

    def _prompt(self, flat: dict[str, Any]) -> str:
        key = self._one_of(flat, PROMPT_KEYS, "the instruction", needed=self.keys.prompt is None)
        prompt = self.keys.prompt if key is None else flat[key]
        if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > _MAX_PROMPT:
            raise BadRequestError(f"{key!r} is {shown(prompt)}; send a text of 1 to {_MAX_PROMPT} characters")
        return prompt

    def _committed(self, flat: dict[str, Any]) -> Committed | None:
        if "committed" not in flat and "frozen" not in flat:
            return None
        if not ("committed" in flat and "frozen" in flat):
            raise BadRequestError("'committed' and 'frozen' go together: the earlier chunk from now on, and how many")
        actions, frozen = _numbers("committed", flat["committed"], 2), flat["frozen"]
        rows, columns = actions.shape
        if columns != self.sizes.action_dim or not 1 <= rows <= self.sizes.horizon:
            raise BadRequestError(
                f"'committed' has shape [{rows}, {columns}]; send 1 to {self.sizes.horizon} rows, "
                f"the actions of an earlier chunk from this observation on, of {self.sizes.action_dim} numbers"
            )
        if type(frozen) is not int or not 0 <= frozen <= rows:
            raise BadRequestError(f"'frozen' is {shown(frozen)}; send a whole number from 0 to the {rows} committed")
        return Committed(actions, frozen)


def _flat(message: Mapping[Any, Any]) -> dict[str, Any]:
    """Nested maps as one: {"images": {"base": x}} -> {"images/base": x}."""
    flat: dict[str, Any] = {}
    for key, value in _leaves(message, "", _MAX_DEPTH):
        if key in flat:
            raise BadRequestError(f"the key {shown(key)} is there twice: nested, and with a slash")
        flat[key] = value
    return flat


def _leaves(message: Mapping[Any, Any], before: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth == 0:
        raise BadRequestError(f"maps are nested over {_MAX_DEPTH} deep; an observation's are not")
    for key, value in message.items():
        if not isinstance(key, str):
            raise BadRequestError(f"the key {shown(key)} is no text")
        if isinstance(value, dict):
            yield from _leaves(value, f"{before}{key}/", depth - 1)
        else:
            yield f"{before}{key}", value


def _numbers(key: str, value: object, dims: int) -> np.ndarray:
    """Finite numbers float32 of `dims` dimensions, from an array, lists or, as one row, a single number."""
    try:
        array = np.atleast_1d(np.asarray(value))
    except ValueError as error:  # lists of different lengths
        raise BadRequestError(f"{key!r} is no array of numbers") from error
    if array.dtype.kind not in "iuf":
        raise BadRequestError(f"{key!r} holds {shown(value)}; send numbers")
    if array.ndim != dims or array.size == 0:
        wanted = "one row of numbers" if dims == 1 else "rows of numbers"
        raise BadRequestError(f"{key!r} has shape {shown(list(array.shape))}; send {wanted}")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise BadRequestError(f"{key!r} holds a number that is not finite in float32")
    return array


def _seed(flat: dict[str, Any]) -> int | None:
    seed = flat.get("seed")
    if "seed" in flat and (type(seed) is not int or not 0 <= seed < 2**63):
        raise BadRequestError(f"'seed' is {shown(seed)}; send a whole number from 0 to 2**63 - 1")
    return seed
