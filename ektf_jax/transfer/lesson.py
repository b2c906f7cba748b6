"""What pre-trained teachers say about a batch."""

from typing import NamedTuple

import jax


class Lesson(NamedTuple):
    """Logits [M, B] of M teachers in evaluation mode, and per teacher a hidden state [B, H] or None."""

    logits: jax.Array
    hidden: tuple[jax.Array | None, ...]
