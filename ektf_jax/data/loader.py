"""Batches of a split: in order for evaluation; shuffled each epoch, by Grain, for training."""

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from ektf_jax.data.encoded import Split

if TYPE_CHECKING:
    import grain


class Batch(NamedTuple):
    """Some rows of a split, a leaf for each of its columns: ids int32 [B, S], labels and weights float32 [B].

    Rows that count alike have no weights, and the batch no leaf for them. The numbers of n dense fields are
    dense float32 [B, n], a leaf where a dataset has such fields.
    """

    ids: ArrayLike
    labels: ArrayLike
    weights: ArrayLike | None = None
    dense: ArrayLike | None = None

    @property
    def beside_ids(self) -> dict[str, Any]:
        """What a model is called with beside the ids: `dense`, where there are such fields."""
        return {} if self.dense is None else {"dense": self.dense}


Gather = Callable[[Split, np.ndarray], Batch]


def gather(split: Split, rows: np.ndarray) -> Batch:
    """The rows [B] of a split as numpy arrays."""
    return jax.tree.map(lambda column: column[rows], Batch(*split))


def order(rows: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order [rows] in which an epoch visits the rows of a split; it depends on (seed, epoch) only."""
    # The same draws as permutation(rows), in half the memory.
    found = np.arange(rows, dtype=np.int32 if rows < 2**31 else np.int64)
    np.random.default_rng([seed, epoch]).shuffle(found)
    return found


def batches_per_epoch(rows: int, batch_size: int) -> int:
    """How many batches hold so many rows, a short last one among them."""
    return -(-rows // batch_size)


class ShuffledBatches:
    """A Grain source whose records are whole batches, numbered on through all epochs.

    Batch i belongs to epoch i // batches_per_epoch. Each epoch visits every row once, in an order that
    depends on (seed, epoch) only; its last batch is short when B does not divide the rows. The position is
    a single number, so that any iterator over this source resumes in the middle of an epoch.
    """

    def __init__(self, split: Split, batch_size: int, *, seed: int, epochs: int, gather: Gather = gather):
        self._split = split
        self._gather = gather
        self._batch_size = batch_size
        self._epochs = epochs
        self.batches_per_epoch = batches_per_epoch(len(split.labels), batch_size)
        # Two: Grain's prefetching reads the next epoch's first batches before the last of this one is used.
        self._order = functools.lru_cache(maxsize=2)(
            lambda epoch: order(len(split.labels), seed=seed, epoch=epoch)
        )

    def __len__(self) -> int:
        return self._epochs * self.batches_per_epoch

    def __getitem__(self, index: int) -> Batch:
        epoch, position = divmod(int(index), self.batches_per_epoch)
        start = position * self._batch_size
        rows = self._order(epoch)[start : start + self._batch_size]
        return self._gather(self._split, rows)


def training_batches(
    split: Split, batch_size: int, *, seed: int, epochs: int, gather: Gather = gather
) -> "tuple[grain.DatasetIterator, int]":
    """An iterator over shuffled training batches of `epochs` epochs, and the batches in one epoch.

    The iterator's `get_state()` and `set_state()` (JSON) hold its position. `gather` takes the rows of a
    batch, in a thread that runs ahead: `sharding.make_gather` puts them on the devices there.
    """
    import grain  # here, for the training loop alone needs it: it takes a second or two

    source = ShuffledBatches(split, batch_size, seed=seed, epochs=epochs, gather=gather)
    # One reader keeps up: a batch is one gather (benchmarks/loader.py).
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    batches = iter(grain.MapDataset.source(source).to_iter_dataset(options))
    return batches, source.batches_per_epoch


def evaluation_batches(split: Split, batch_size: int) -> Iterator[tuple[Batch, int]]:
    """All rows in order, as (batch of B rows, number of rows that count); one batch of none without rows.

    The last batch is filled up with zeros, padding ids and weights of 0, so that every batch has one shape
    and compiles once.
    """
    for start in range(0, max(1, len(split.labels)), batch_size):
        rows = min(batch_size, len(split.labels) - start)

        def cut(column: np.ndarray, start: int = start, missing: int = batch_size - rows) -> np.ndarray:
            part = np.asarray(column[start : start + batch_size])
            return np.pad(part, [(0, missing), *[(0, 0)] * (part.ndim - 1)]) if missing else part

        yield jax.tree.map(cut, Batch(*split)), rows
