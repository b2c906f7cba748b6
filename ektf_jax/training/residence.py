"""Where the rows of a run lie while it trains: with the host, or on the devices (`data.residence`).

Both feed the same step with the same rows. From the host comes a batch at a time, in a thread that runs
ahead, and each step is a dispatch. On the devices lie whole splits and an epoch's order; batches are gathered
there, and any number of steps is one dispatch of one program, so that the bits do not depend on how many.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ektf_jax import sharding
from ektf_jax.config import Config
from ektf_jax.data import loader
from ektf_jax.data.encoded import Split
from ektf_jax.data.loader import Batch
from ektf_jax.data.schema import Schema
from ektf_jax.errors import InputError
from ektf_jax.layers.apart import apart
from ektf_jax.training import compiler
from ektf_jax.training.step import StepMetrics

# What a step changes: a training state and, where a run has one, the average of its weights.
Carry = Any
# Of the carry, what no step changes, a batch and its learning rate.
Advance = Callable[[Carry, Any, Batch, Any], tuple[Carry, StepMetrics]]
Splits = Mapping[str, Split]
MakeRows = Callable[..., "OnHost | OnDevices"]
# Of each run its carry and the metrics of the steps that `make_steps` says.
Steps = Callable[..., list[tuple[Carry, StepMetrics]]]

# Of a device's memory, for rows: the rest is for weights, moments and what a step computes.
_SHARE = 0.5


class Block(NamedTuple):
    """Steps that are one dispatch, each on a batch of so many rows, and where these come from."""

    steps: int
    rows: int
    source: Any


class OnHost:
    """Batches from the host, a step a dispatch, which calls its parts one by one.

    `part_options` are the compiler's for each of them.
    """

    def __init__(
        self, config: Config, mesh: Mesh, splits: Splits, advance: Advance, options: compiler.Options
    ):
        self.part_options = options
        self._splits, self._advance, self._batch_size = splits, advance, config.data.batch_size
        self._batches, _ = loader.training_batches(
            splits["train"],
            self._batch_size,
            seed=config.seed,
            epochs=config.train.max_epochs,
            gather=sharding.make_gather(mesh),
        )

    def part(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A jitted function as a step calls it: as it is."""
        return function

    def go_to(self, step: int) -> None:
        """Have the next block begin after so many steps of the run."""
        self._batches.set_state({"next_index": step})

    def next(self, step: int, most: int) -> Block:
        """Return the next step after `step`; waits for its batch."""
        batch = next(self._batches)
        return Block(1, len(batch.labels), batch)

    def train(self, carry: Carry, fixed: Any, block: Block, rates: np.ndarray) -> tuple[Carry, StepMetrics]:
        """Take the step of a block at its learning rate; no step changes what is `fixed`."""
        return self._advance(carry, fixed, block.source, rates[0])

    def evaluation_batches(self, split: str) -> Iterator[tuple[Batch, int]]:
        """As `loader.evaluation_batches`."""
        return loader.evaluation_batches(self._splits[split], self._batch_size)

    def close(self) -> None:
        """Let go of what lies on the devices: nothing does."""


class OnDevices:
    """Splits that lie whole on every device of a mesh; each takes the rows of its part of a batch.

    The steps up to the next that is logged or saved are one dispatch of one program, which has the compiler's
    `options`; its parts have none.
    """

    part_options: compiler.Options = MappingProxyType({})

    def __init__(
        self,
        config: Config,
        mesh: Mesh,
        schema: Schema,
        splits: Splits,
        advance: Advance,
        options: compiler.Options,
    ):
        self._splits, self._mesh, self._batch_size = splits, mesh, config.data.batch_size
        self._features = schema.num_features
        rows = len(splits["train"].labels)
        self._full, self._left = divmod(rows, self._batch_size)
        self._epochs = config.train.max_epochs
        self.most = min(config.train.log_every, config.train.checkpoint_every, self._full)
        self.resident = cache(self._put)  # a split goes there when it is first read
        self._ahead = ThreadPoolExecutor(1, "order")
        self._orders: dict[int, Future[jax.Array]] = {}
        self._order_of = lambda epoch: self._everywhere(
            loader.order(rows, seed=config.seed, epoch=epoch).astype(np.int32)
        )
        self._steps = make_steps(advance, mesh, self._batch_size, self.most, options)
        self._cut = _make_cut(mesh, self._batch_size)

    def part(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A jitted function as a step calls it: within the program as it would be alone."""
        return apart(function)

    def go_to(self, step: int) -> None:
        """Have the next block begin after so many steps of the run: `next` is told so each time."""

    def next(self, step: int, most: int) -> Block:
        """Return at most so many steps after `step`, all of one epoch and size; waits for its order."""
        epoch, first = divmod(step, self._full + (self._left > 0))
        for ahead in (epoch, epoch + 1):
            if ahead not in self._orders and ahead < self._epochs:
                self._orders[ahead] = self._ahead.submit(self._order_of, ahead)
        self._orders = {known: order for known, order in self._orders.items() if known >= epoch}
        source = self._orders[epoch].result(), np.int32(first)
        if first == self._full:
            return Block(1, self._left, source)
        return Block(min(most, self.most, self._full - first), self._batch_size, source)

    def train(self, carry: Carry, fixed: Any, block: Block, rates: np.ndarray) -> tuple[Carry, StepMetrics]:
        """Take the steps of a block, each at its learning rate; metrics have a leading axis of steps."""
        return self.train_together(self._steps, [carry], [fixed], [block], [rates])[0]

    def train_together(
        self,
        steps: Steps,
        carries: Sequence[Carry],
        fixed: Sequence[Any],
        blocks: Sequence[Block],
        rates: Sequence[np.ndarray],
    ) -> list[tuple[Carry, StepMetrics]]:
        """Take the same steps of several runs on these rows, each with its order and learning rates."""
        padded = np.zeros((len(blocks), self.most), np.float32)
        padded[:, : blocks[0].steps] = rates
        orders, first = tuple(block.source[0] for block in blocks), blocks[0].source[1]
        count, rows, split = np.int32(blocks[0].steps), blocks[0].rows, self.resident("train")
        return steps(tuple(carries), tuple(fixed), split, orders, first, count, padded, rows=rows)

    def evaluation_batches(self, split: str) -> Iterator[tuple[Batch, int]]:
        """As `loader.evaluation_batches`, on the devices."""
        rows, resident = len(self._splits[split].labels), self.resident(split)
        for start in range(0, max(1, rows), self._batch_size):
            yield self._cut(resident, np.int32(start)), min(self._batch_size, rows - start)

    def close(self) -> None:
        """Let go of what lies on the devices: cycles would hold it until the garbage collector comes."""
        self._ahead.shutdown(cancel_futures=True)
        self._orders.clear()
        self.resident.cache_clear()

    def _put(self, name: str) -> Batch:
        """A split on the devices, filled up to whole batches with zeros, padding ids."""
        split = self._splits[name]
        missing = max(1, -(-len(split.labels) // self._batch_size)) * self._batch_size - len(split.labels)
        ids, labels = split.ids.astype(_id_type(self._features)), split.labels.astype(np.int8)
        small = Batch(*split)._replace(ids=ids, labels=labels)

        def put(column: np.ndarray) -> jax.Array:
            return self._everywhere(np.pad(column, [(0, missing), *[(0, 0)] * (column.ndim - 1)]))

        return jax.tree.map(put, small)

    def _everywhere(self, values: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(values.shape, sharding.replicated(self._mesh), values.__getitem__)


def make(
    config: Config,
    mesh: Mesh,
    schema: Schema,
    splits: Splits,
    advance: Advance,
    options: compiler.Options,
) -> OnHost | OnDevices:
    """The rows where config.data.residence has them; InputError where they do not fit there.

    `options` are the compiler's, for steps.
    """
    if on_devices(config, mesh, schema, splits):
        return OnDevices(config, mesh, schema, splits, advance, options)
    return OnHost(config, mesh, splits, advance, options)


def on_devices(config: Config, mesh: Mesh, schema: Schema, splits: Splits) -> bool:
    """Whether config.data.residence is the devices; InputError where the rows do not fit there."""
    if config.data.residence == "host":
        return False
    if config.data.residence == "auto":
        room = _SHARE * memory_of(mesh.local_devices[0])
        return _longest(splits) < 2**31 and resident_bytes(schema, splits) <= room
    check_room(mesh, schema, splits)
    return True


def memory_of(device: jax.Device) -> int:
    """Bytes of a device's memory; 0 where it does not say."""
    return (device.memory_stats() or {}).get("bytes_limit", 0)


def check_room(mesh: Mesh, schema: Schema, splits: Splits) -> None:
    """Raise InputError where the rows do not fit on a device."""
    needed, limit = resident_bytes(schema, splits), memory_of(mesh.local_devices[0])
    if (rows := _longest(splits)) >= 2**31:
        raise InputError(
            f"config.data.residence = 'device': a split has {rows} rows, and a device counts to {2**31 - 1};"
            " use 'host' or 'auto'"
        )
    if limit and needed > limit:
        raise InputError(
            f"config.data.residence = 'device': the rows of {', '.join(splits)} are {needed / 2**30:.1f} GiB,"
            f" and a device has {limit / 2**30:.1f} GiB; use 'host' or 'auto'"
        )


def _longest(splits: Splits) -> int:
    return max(len(split.labels) for split in splits.values())


def resident_bytes(schema: Schema, splits: Splits) -> int:
    """What splits take on a device: ids, labels, weights, dense and the orders of two epochs."""
    row = schema.num_slots * _id_type(schema.num_features).itemsize + 1
    orders = 2 * np.dtype(np.int32).itemsize * len(splits["train"].labels)
    more = sum(each.nbytes for split in splits.values() for each in split[2:] if each is not None)
    return orders + more + sum(len(split.labels) * row for split in splits.values())


def _id_type(features: int) -> np.dtype:
    """The smallest type that holds all ids of so many features."""
    small = np.min_scalar_type(features - 1)
    return small if small.itemsize < 4 else np.dtype(np.int32)


def _make_cut(mesh: Mesh, batch_size: int) -> Callable[[Batch, np.int32], Batch]:
    """Jitted: a batch of a resident split from a row on, as the host would give it."""

    @partial(jax.jit, out_shardings=sharding.batch_sharding(mesh, batch_size))
    def cut(split: Any, start: jax.Array) -> Batch:
        return _as_batch(
            jax.tree.map(lambda c: jax.lax.dynamic_slice_in_dim(jnp.asarray(c), start, batch_size), split)
        )

    return cut


def _as_batch(rows: Any) -> Batch:
    """Rows of a resident split with the types that a step takes."""
    return rows._replace(ids=rows.ids.astype(jnp.int32), labels=rows.labels.astype(jnp.float32))


def make_steps(advance: Advance, mesh: Mesh, batch_size: int, most: int, options: compiler.Options) -> Steps:
    """Jitted: `steps` steps from the batch `first` of an order on, each of `rows` rows. Donates the carries.

    A loop whose length is no constant: one program, compiled once, takes one step or `most`, to the same
    bits. Metrics have `most` entries, of which the first `steps` are told. Of each run there is a carry, what
    no step changes, an order and learning rates; several are advanced as one, over a leading axis.
    """

    @partial(jax.jit, donate_argnums=0, static_argnames="rows", compiler_options=dict(options))
    def take(
        carries: tuple[Carry, ...],
        fixed: tuple[Any, ...],
        split: Any,
        orders: tuple[jax.Array, ...],
        first: jax.Array,
        steps: jax.Array,
        rates: jax.Array,
        *,
        rows: int,
    ) -> list[tuple[Carry, StepMetrics]]:
        on_mesh = sharding.batch_sharding(mesh, rows)
        alone = len(carries) == 1
        carry, *of_runs = (
            trees[0] if alone else _stack(trees) for trees in (carries, fixed, orders, tuple(rates))
        )

        def of_run(
            index: jax.Array, carry: Carry, fixed: Any, order: jax.Array, rates: jax.Array
        ) -> tuple[Carry, StepMetrics]:
            at = jax.lax.dynamic_slice_in_dim(order, (first + index) * batch_size, rows)
            at = jax.lax.with_sharding_constraint(at, on_mesh)
            taken = jax.tree.map(lambda column: column.at[at].get(mode="promise_in_bounds"), split)
            batch = jax.lax.with_sharding_constraint(_as_batch(taken), on_mesh)
            return advance(carry, fixed, batch, rates[index])

        def one(index: jax.Array, carry: Carry) -> tuple[Carry, StepMetrics]:
            advanced = of_run if alone else jax.vmap(of_run, in_axes=(None, 0, 0, 0, 0))
            return advanced(index, carry, *of_runs)

        def body(index: jax.Array, loop: tuple[Carry, StepMetrics]) -> tuple[Carry, StepMetrics]:
            carry, metrics = loop
            carry, found = one(index, carry)
            return carry, jax.tree.map(lambda all_, new: all_.at[index].set(new), metrics, found)

        _, told = jax.eval_shape(one, jnp.int32(0), carry)
        room = jax.tree.map(lambda leaf: jnp.zeros((most, *leaf.shape), leaf.dtype), told)
        carry, metrics = jax.lax.fori_loop(0, steps, body, (carry, room))
        if alone:
            return [(carry, metrics)]
        return [jax.tree.map(itemgetter(run), (carry, _runs_first(metrics))) for run in range(len(carries))]

    return take


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _runs_first(metrics: StepMetrics) -> StepMetrics:
    """[steps, runs, ...] as [runs, steps, ...]."""
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), metrics)
