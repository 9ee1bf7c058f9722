"""What DeepSpeed's ZeRO holds on one device: its sources read (0.19), and measured where they leave a doubt.

Its buffers have fixed sizes, 2e9 bytes for the gradients it exchanges, whatever the size of the module.
"""

import math

from vla.train.footprint.events import Event
from vla.train.footprint.placement import EMA, GATHERED, GRADIENTS, OPTIMISER, WEIGHTS, Held, Sizes

_FLOAT = 4
BUCKET = 500_000_000 * _FLOAT  # reduce_bucket_size
_LIVE = 1_000_000_000 * _FLOAT  # stage3_max_live_parameters
_PREFETCH = 50_000_000 * _FLOAT  # stage3_prefetch_bucket_size


class CutState:
    """Stages 1 and 2: weights whole; moments, and a second copy of what learns, cut over the ranks.

    Stage 1 keeps all gradients until the update. Stage 2 moves each into the bucket, and keeps a rank's own share of
    what was reduced.
    """

    def __init__(self, sizes: Sizes, stage: int, world: int, accumulate: int, ema: bool) -> None:
        self._sizes, self._stage, self._accumulate = sizes, stage, accumulate
        learning = sizes.whole(learning=True)
        self._share = math.ceil(learning / world)
        self._in_bucket = 0
        earlier = self._share if stage == 2 else learning
        self.held: Held = {
            WEIGHTS: sizes.whole() + sizes.buffers,
            GRADIENTS: earlier if accumulate > 1 else 0,
            OPTIMISER: 3 * self._share,
            EMA: learning if ema else 0,
            GATHERED: BUCKET if accumulate > 1 and stage == 1 else 0,
        }

    def react(self, event: Event) -> None:
        """The bucket is there from the first gradient on; full, it is reduced and emptied."""
        if event.what != "gradient":
            return
        self.held[GATHERED] = BUCKET
        size = self._sizes.weights[event.value].nbytes
        if self._accumulate == 1 and self._stage == 1:
            self.held[GRADIENTS] += size
        elif self._accumulate == 1:
            self._in_bucket += size
            if self._in_bucket > BUCKET:
                self.held[GRADIENTS] = self._share

    def after(self) -> list[Held]:
        """The last reduction, then the update, for which a rank's gradients are copied into one tensor."""
        reduced = {**self.held, GRADIENTS: max(self.held[GRADIENTS], self._share)}
        return [reduced, {**reduced, GRADIENTS: reduced[GRADIENTS] + self._share, GATHERED: 0}]


class CutWeights:
    """Stage 3: weights cut too, those that learn held twice; gathered ones are kept while they will be read soon."""

    def __init__(self, sizes: Sizes, world: int, ema: bool) -> None:
        learning = math.ceil(sizes.whole(learning=True) / world)
        whole = sizes.whole()
        self._kept = min(whole, _LIVE)
        fetched = min(whole, max(_PREFETCH, *(w.nbytes for w in sizes.weights)))
        self.held: Held = {
            WEIGHTS: math.ceil(whole / world) + learning + sizes.buffers,
            GRADIENTS: learning,
            OPTIMISER: 2 * learning,
            EMA: learning if ema else 0,
            GATHERED: BUCKET + self._kept + fetched,
        }

    def react(self, event: Event) -> None:
        """In the forward pass what is gathered ahead is held twice, in the buffer and as weights."""
        if event.what == "backward":
            self.held[GATHERED] = BUCKET + self._kept

    def after(self) -> list[Held]:
        """The update works on a rank's own share."""
        return [{**self.held, GATHERED: BUCKET}]
