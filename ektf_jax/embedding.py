"""The fused embedding table: one table for all fields, ids already offset into it."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.data.schema import ATTENTION, POOLINGS, Field, check_targets
from ektf_jax.layers.pretrained import Pretrained
from ektf_jax.layers.target_attention import Region, TargetAttention

_DENSE = "dense"  # the pooling, so to say, of a field that is a number


class Embedding(nnx.Module):
    """Field embeddings by lookup; a multi-valued field pools its filled slots. [B, S] -> [B, F, D].

    A field's `pooling` says how: their mean, sum or, in each dimension, maximum, whose gradient equal ones
    share; or by `attention` to the field's target. `pretrained` adds to a field's rows of the table what it
    makes of their vectors. A dense field is the embedding of its id times its number of the row, `dense`
    [B, n] of all n of them. Id 0 is padding in every field: it contributes nothing and gets no gradient, and
    a field without any value is the zero vector. Initialised N(0, 1e-4^2), padding rows zero, as in FuxiCTR.
    `table` has one row per feature, [V, D]. Its last `own` columns are read by one of `students` each, the
    others by all of them. Of these the last `wide` are the weights of linear models over the ids, which a
    multi-valued field sums over its slots instead. `regions` say what the columns before them are
    (`TargetAttention`); by default, one embedding. `shards` rounds V up to a multiple of it, with rows of
    zeros that no id names and that stay zero.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        dim: int,
        *,
        own: int = 0,
        wide: int = 0,
        students: int = 1,
        regions: Sequence[Region] | None = None,
        shards: int = 1,
        rngs: nnx.Rngs,
    ):
        num_features = sum(field.vocab_size for field in fields)
        table = 1e-4 * jax.random.normal(rngs.params(), (num_features, dim), jnp.float32)
        padding = jnp.array([field.offset for field in fields])
        table = jnp.pad(table.at[padding].set(0), ((0, -num_features % shards), (0, 0)))
        self.table: nnx.Variable[jax.Array] = nnx.Param(table)
        self.own = own
        self.wide = wide
        self.students = students
        self.runs = _runs(fields)
        check_targets(fields)
        slots = dict(zip((field.name for field in fields), _starts(fields), strict=True))
        self.targets = tuple(slots[field.target] for field in fields if field.target is not None)
        regions = [(1, (dim - wide,))] if regions is None else regions
        self.attention = nnx.List(TargetAttention(regions, rngs=rngs) for _ in self.targets)
        # To weights over the ids alone, as logistic regression has them, vectors have nothing to add.
        given = [(field, field.pretrained) for field in fields if field.pretrained is not None and dim > wide]
        self.given = tuple((slots[field.name], field.max_len, field.offset) for field, _ in given)
        self.pretrained = nnx.List(
            Pretrained(field.vocab_size, numbers, dim - wide, frozen=field.frozen, rngs=rngs)
            for field, numbers in given
        )

    def squares(self) -> jax.Array:
        """Mean over students of the sum of squares of all that a student reads: what L2 weighs.

        A column that is one student's own counts 1 / K. Beside a mean of the students' losses the penalty
        is then for each of them what it is for a student alone, whatever K and how columns are shared.
        """
        table = self.table[...]
        if not self.own or self.students == 1:
            return jnp.sum(table**2)
        shared = table.shape[1] - self.own
        weights = jnp.where(jnp.arange(table.shape[1]) < shared, 1.0, 1 / self.students)
        return jnp.sum(jnp.sum(table**2, axis=0) * weights)

    def __call__(self, ids: jax.Array, dense: jax.Array | None = None) -> jax.Array:
        width = sum(count * max_len for _, count, max_len, _ in self.runs)
        if ids.ndim != 2 or ids.shape[1] != width or ids.shape[0] == 0:
            raise ValueError(f"expected ids [B, {width}], B at least 1, got shape {ids.shape}")
        numbers = sum(count for _, count, _, pooling in self.runs if pooling == _DENSE)
        if (None if dense is None else dense.shape[1]) != (numbers or None):
            found = "none" if dense is None else f"of shape {dense.shape}"
            raise ValueError(f"the model has {numbers} dense fields, and dense is {found}")
        mask = (ids != 0).astype(jnp.float32)
        vectors = self.table[...][ids] * mask[..., None]
        for (start, count, offset), pretrained in zip(self.given, self.pretrained, strict=True):
            stop = start + count
            known = ids[:, start:stop]
            added = pretrained(jnp.where(known != 0, known - offset, known)) * mask[:, start:stop, None]
            beside = ((0, 0), (start, ids.shape[1] - stop), (0, self.wide))
            vectors += jnp.pad(added, beside)
        parts, seen = [], 0
        attended = zip(self.targets, self.attention, strict=True)
        read = vectors.shape[-1] - self.wide
        for start, count, max_len, pooling in self.runs:
            stop = start + count * max_len
            part = vectors[:, start:stop]
            if pooling == _DENSE:
                assert dense is not None
                part = part * dense[:, seen : seen + count, None]
                seen += count
            elif pooling == ATTENTION:
                target, attention = next(attended)
                pooled = attention(vectors[:, target, :read], part[..., :read])
                if self.wide:
                    pooled = jnp.concatenate([pooled, jnp.sum(part[..., read:], axis=1)], axis=-1)
                part = pooled[:, None]
            elif max_len > 1:
                shape = (ids.shape[0], count, max_len)
                filled = jnp.sum(mask[:, start:stop].reshape(shape), axis=2)
                summed = jnp.sum(part.reshape(*shape, -1), axis=2)
                if pooling == "mean":
                    part = summed / jnp.maximum(filled, 1)[..., None]
                elif pooling == "sum":
                    part = summed
                else:  # arrays, not numbers, whose type jax2onnx would not know
                    values = part.reshape(*shape, -1)
                    lowest = jnp.full_like(values, -jnp.inf)
                    slots = mask[:, start:stop].reshape(*shape, 1) != 0
                    largest = jnp.max(jnp.where(slots, values, lowest), axis=2)
                    part = jnp.where(filled[..., None] != 0, largest, jnp.zeros_like(largest))
                if self.wide:
                    part = jnp.concatenate([part[..., : -self.wide], summed[..., -self.wide :]], axis=-1)
            parts.append(part)
        return jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def _runs(fields: Sequence[Field]) -> tuple[tuple[int, int, int, str], ...]:
    """Neighbouring fields of equal max_len and pooling, as (first slot, fields, max_len, pooling).

    One slice serves them all. Of one slot every pooling is the same, but for attention, which each field has
    to a target of its own.
    """
    runs: list[tuple[int, int, int, str]] = []
    for field, slot in zip(fields, _starts(fields), strict=True):
        pooling = field.pooling if field.max_len > 1 or field.pooling == ATTENTION else POOLINGS[0]
        kind = field.max_len, pooling if field.scale is None else _DENSE
        if runs and runs[-1][2:] == kind and pooling != ATTENTION:
            start, count, *_ = runs[-1]
            runs[-1] = (start, count + 1, *kind)
        else:
            runs.append((slot, 1, *kind))
    return tuple(runs)


def _starts(fields: Sequence[Field]) -> list[int]:
    """The first slot of each field."""
    stops = list(itertools.accumulate(field.max_len for field in fields))
    return [stop - field.max_len for stop, field in zip(stops, fields, strict=True)]
