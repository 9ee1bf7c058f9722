"""What a rehearsed step did, in order; a kind of parallelism is a reader of this list."""

from typing import Literal, NamedTuple

What = Literal["bytes", "forward", "forward_end", "backward", "backward_end", "gradient"]


class Event(NamedTuple):
    """One moment of a micro-batch.

    what            value
    bytes           of activations and temporaries, that came (> 0) or went (< 0)
    forward         index of the block whose forward pass begins (`forward_end`: has ended)
    backward        index of the block whose backward pass begins (`backward_end`: has ended)
    gradient        index of the parameter, in `named_parameters`, whose gradient is made and given up
    """

    what: What
    value: int


class FlopCount(NamedTuple):
    """Floating-point operations of matrix products, convolutions and attention, two a multiplication and addition.

    `backward` leaves out what activation checkpointing computes again: that is `recomputed`.
    """

    forward: int
    backward: int
    recomputed: int

    @property
    def total(self) -> int:
        """All that is computed."""
        return self.forward + self.backward + self.recomputed
