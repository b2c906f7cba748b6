"""Lists pooled by attention to a target: DIN's activation unit (Zhou et al., KDD 2018, Section 4.3)."""

import itertools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import DNN
from ektf_jax.layers.rngs import make_rngs

HIDDEN_UNITS = (64,)

# Neighbouring columns: how many copies, and the widths of what each of them has beside one another.
Region = tuple[int, tuple[int, ...]]


class TargetAttention(nnx.Module):
    """Weigh the vectors of a list by a target and sum them. [B, C] and [B, L, C] -> [B, C].

    The weight of a vector v beside the target t is MLP([t, v, t - v, t * v]), a hidden layer of 64 with ReLU
    and a linear output, as FuxiCTR's DIN_Attention has it; as in the paper there is no softmax over the list,
    so that the sum says how much of it matters. A vector of zeros, which a padding slot has, counts nothing.

    `regions` say what the C columns are. Each part of each copy is an embedding by itself, weighed by a unit
    of its own: what several students share is pooled once for all of them, what one has to itself as it would
    be if there were no others.
    """

    def __init__(self, regions: Sequence[Region], *, rngs: nnx.Rngs):
        found = ((copies, tuple(width for width in widths if width)) for copies, widths in regions)
        self.regions = tuple((copies, widths) for copies, widths in found if widths)
        self.units = nnx.List(
            ActivationUnits(copies, width, rngs=rngs) for copies, widths in self.regions for width in widths
        )

    def __call__(self, target: jax.Array, values: jax.Array) -> jax.Array:
        rows, slots, _ = values.shape
        parts, start, units = [], 0, iter(self.units)
        for copies, widths in self.regions:
            width = sum(widths)
            stop = start + copies * width
            beside = target[:, start:stop].reshape(rows, copies, width)
            weighed = values[..., start:stop].reshape(rows, slots, copies, width)
            pooled, first = [], 0
            for each in widths:
                columns = slice(first, first + each)
                pooled.append(next(units)(beside[..., columns], weighed[..., columns]))
                first += each
            parts.append(jnp.concatenate(pooled, axis=-1).reshape(rows, copies * width))
            start = stop
        return jnp.concatenate(parts, axis=-1) if parts else target[:, :0]

    def reads(self, columns: Sequence[int]) -> list[tuple[int, int]]:
        """Name the units of some of the columns: which of `units`, and which of its copies."""
        return [(unit, copy) for unit, copy, column in self._places() if column in columns]

    def take(self, columns: Sequence[int]) -> None:
        """Keep the units of these columns, which are all that there are then, in this order."""
        kept = self.reads(columns)
        regions, units, stacks = [], [], iter(enumerate(self.units))
        for _, widths in self.regions:
            copies: list[int] = []
            for index, stack in itertools.islice(stacks, len(widths)):
                if copies := [copy for unit, copy in kept if unit == index]:
                    stack.take(copies)
                    units.append(stack)
            if copies:
                regions.append((len(copies), widths))
        self.regions, self.units = tuple(regions), nnx.List(units)

    def _places(self) -> Iterator[tuple[int, int, int]]:
        """Of each unit its index in `units`, its copy and its first column."""
        start = seen = 0
        for copies, widths in self.regions:
            for place, _ in enumerate(widths):
                for copy in range(copies):
                    yield seen + place, copy, start + copy * sum(widths) + sum(widths[:place])
            start += copies * sum(widths)
            seen += len(widths)


class ActivationUnits(nnx.Module):
    """n activation units, each for columns of its own: [B, n, w] and [B, L, n, w] -> [B, n, w].

    One module whose parameters have a leading axis of n. An export sets `unrolled`, a loop in Python, for
    compilers that know no layer of several kernels.
    """

    def __init__(self, copies: int, width: int, *, rngs: nnx.Rngs):
        keys = jax.random.split(rngs.params(), copies)
        graphdef, states = jax.vmap(lambda key: nnx.split(_unit(width, make_rngs(key))))(keys)
        self.copies = nnx.merge(graphdef, states)
        self.unrolled = False

    def __call__(self, target: jax.Array, values: jax.Array) -> jax.Array:
        rows, slots, copies, width = values.shape
        target = jnp.broadcast_to(target[:, None], values.shape)
        inputs = jnp.concatenate([target, values, target - values, target * values], axis=-1)
        inputs = jnp.moveaxis(inputs, 2, 0).reshape(copies, rows * slots, 4 * width)
        graphdef, state = nnx.split(self.copies)

        def weigh(state: nnx.State, inputs: jax.Array) -> jax.Array:
            return nnx.merge(graphdef, state)(inputs)

        if self.unrolled:
            each = (jax.tree.map(lambda x, i=i: x[i], (state, inputs)) for i in range(copies))
            weights = jnp.stack([weigh(*one) for one in each])
        else:
            weights = jax.vmap(weigh)(state, inputs)
        weights = jnp.moveaxis(weights.reshape(copies, rows, slots), 0, 2)
        return jnp.sum(weights[..., None] * values, axis=1)

    def take(self, copies: Sequence[int]) -> None:
        """Keep these units, and drop the others."""
        graphdef, state = nnx.split(self.copies)
        kept = jnp.array(copies, int)
        self.copies = nnx.merge(graphdef, jax.tree.map(lambda x: x[kept], state))


def _unit(width: int, rngs: nnx.Rngs) -> DNN:
    """[N, 4 w] -> [N]."""
    return DNN(4 * width, HIDDEN_UNITS, dropout=0.0, batch_norm=False, rngs=rngs)
