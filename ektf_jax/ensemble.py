"""Ensembles of students over one shared embedding: a tuple of groups, each a stack of equal networks."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax import losses
from ektf_jax.config import FUSIONS, MEMBERS, STACKS
from ektf_jax.data.schema import Field
from ektf_jax.embedding import Embedding
from ektf_jax.layers import adapters
from ektf_jax.layers.blocks import linear
from ektf_jax.layers.rngs import make_rngs

# Up to so many copies run one after another without a loop, which is faster on a CPU
# (benchmarks/variants.py); of more the scan is one loop, whose compile time does not grow with K.
UNROLL_UP_TO = 10
# Of more members of one network than these, a scan keeps no activations for the gradient but computes each
# member's again: 32 take the memory of one, and a fifth more time than copies (benchmarks/members.py).
# Without shared kernels the students themselves grow with K.
KEEP_UP_TO = 10


class Prediction(NamedTuple):
    """Logits of the students [K, B] and of their ensemble [B].

    Students fused by "concat" have no prediction of their own: K is 0 there. `auxiliary_losses` [K] are
    what students add to the training loss by themselves, 0 for one that adds nothing; None in evaluation.
    Of several passes the logits are those of the mean probability, and `auxiliary_losses` hold the
    self-transfer.
    """

    students: jax.Array
    ensemble: jax.Array
    auxiliary_losses: jax.Array | None = None


class StudentGroup(nnx.Module):
    """`size` copies of one student, each with its own initialisation, dropout and BatchNorm statistics.

    The copies are one module whose parameters and statistics carry a leading axis of `size`. `stack` says
    how that axis is run: "vmap" makes every layer one batched product, which accelerators want; "scan"
    runs the copies in turn, whose plain products are faster on a CPU; "auto" is scan on the CPU and vmap
    elsewhere. An export sets it to "unrolled", a loop in Python, for compilers that know no other.
    """

    def __init__(
        self, make_student: Callable[..., nnx.Module], size: int, *, stack: str = "auto", key: jax.Array
    ):
        if size < 1:
            raise ValueError(f"a group of {size} students: it must have at least 1")
        if stack not in STACKS:
            raise ValueError(f"stack {stack!r} is unknown: use one of {', '.join(STACKS)}")
        if stack == "auto":
            stack = "scan" if jax.default_backend() == "cpu" else "vmap"
        self.size = size
        self.stack = stack
        keys = jax.random.split(key, size)
        graphdef, states = jax.vmap(lambda key: nnx.split(make_student(rngs=make_rngs(key))))(keys)
        self.students = nnx.merge(graphdef, adapters.one_kernel(states))

        # See ektf_jax.students for what a student may have.
        self.hidden_size: int = getattr(self.students, "hidden_size", 0)
        self.own_dim: int = getattr(self.students, "own_dim", 0)
        self.wide_dim: int = getattr(self.students, "wide_dim", 0)
        takes = inspect.signature(type(self.students).__call__).parameters
        self.takes = tuple(name for name in ("labels", "sample_weights") if name in takes)

    def take(self, indices: Sequence[int]) -> None:
        """Keep these copies, and drop the others."""
        graphdef, shared, *rest = nnx.split(self.students, adapters.SharedKernel, ...)
        (state,) = rest
        kept = jnp.array(indices, int)
        self.students = nnx.merge(graphdef, shared, jax.tree.map(lambda x: x[kept], state))
        self.size = len(indices)

    def __call__(
        self,
        embeddings: jax.Array,
        own: jax.Array | None = None,
        *,
        train: bool = False,
        key: jax.Array | None = None,
        method: str = "__call__",
        passes: int = 1,
        labels: jax.Array | None = None,
        sample_weights: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Run every copy on the same embeddings [B, F, D], each with its `own` beside them if it has some.

        `own` is [size, B, F, columns], all that a copy reads of the table beside what is shared. Returns
        logits [size, B], or [size, B, H] of "hidden", and the copies' own losses [size]. `passes` of more
        than 1 run each copy so often, with different dropout: outputs are [size, passes, ...] then, and own
        losses means. `labels` and `sample_weights` [B], in training, are for students whose own loss needs
        them. Training needs a key.
        """
        graphdef, shared, *rest = nnx.split(self.students, adapters.SharedKernel, ...)
        (state,) = rest
        given = {"labels": labels, "sample_weights": sample_weights}
        more = {name: given[name] for name in self.takes if method == "__call__"}

        def run_one(
            copy: tuple[nnx.State, jax.Array | None, jax.Array | None],
        ) -> tuple[jax.Array, jax.Array, nnx.State]:
            state, key, own = copy
            student = nnx.merge(graphdef, shared, state, copy=True)
            inputs = embeddings if own is None else jnp.concatenate([embeddings, own], axis=-1)
            inputs = adapters.adapted(student, inputs)

            def run_once(key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
                output = getattr(student, method)(inputs, train=train, key=key, **more)
                return output if isinstance(output, tuple) else (output, jnp.zeros(()))

            if passes == 1:
                output, loss = run_once(key)
            else:
                # One after another: what they have in common, up to the first dropout, is computed once.
                assert key is not None, "several passes need a key for dropout"
                runs = [run_once(key) for key in jax.random.split(key, passes)]
                output, loss = jnp.stack([run[0] for run in runs]), jnp.mean(jnp.stack([r[1] for r in runs]))
            return output, loss, nnx.state(student, nnx.BatchStat)

        copies = (state, None if key is None else jax.random.split(key, self.size), own)
        if self.stack == "vmap":
            outputs, auxiliary_losses, statistics = jax.vmap(run_one)(copies)
        elif self.stack == "unrolled":
            runs = [run_one(jax.tree.map(lambda x, i=i: x[i], copies)) for i in range(self.size)]
            outputs, auxiliary_losses, statistics = jax.tree.map(lambda *parts: jnp.stack(parts), *runs)
        else:
            unroll = self.size if self.size <= UNROLL_UP_TO else 1
            if train and self.size > KEEP_UP_TO and jax.tree.leaves(shared):
                run_one, unroll = jax.checkpoint(run_one), 1
            _, (outputs, auxiliary_losses, statistics) = jax.lax.scan(
                lambda _, copy: (None, run_one(copy)), None, copies, unroll=unroll
            )
        if train:
            nnx.update(self.students, statistics)
        return outputs, auxiliary_losses


class Ensemble(nnx.Module):
    """Embedding, students, fusion: ids [B, S] -> `Prediction`. The whole model of Section 3.5.

    Args:
      fields: the dataset's, in order (`data.schema.make_fields`, `Schema.fields`): vocabularies and slots.
      students: per group, how to make a student from (num_fields, embedding_dim, rngs) and how many.
      embedding_dim: D.
      own_columns: how many of the D columns each student has to itself, at most D; the others are shared.
      passes: how often each student runs in a training step, with different dropout, to teach itself
        (`losses.self_transfer`); 1 is without.
      members: "separate" copies of a student in each group, or one set of kernels with "adapters" of each
        member (`ektf_jax.layers.adapters`).
      fusion: how students become the ensemble (Eq. 1): "mean" or "sum" of logits, or "concat", a linear
        layer over the students' last hidden states.
      stack: see `StudentGroup`.
      table_shards: into how many equal parts the table can be split by rows; see `Embedding`.
      key: seed of all initialisation.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        students: Sequence[tuple[Callable[..., nnx.Module], int]],
        *,
        embedding_dim: int,
        own_columns: int = 0,
        passes: int = 1,
        members: Literal["separate", "adapters"] = "separate",
        fusion: Literal["mean", "sum", "concat"] = "mean",
        stack: str = "auto",
        table_shards: int = 1,
        key: jax.Array,
    ):
        if fusion not in FUSIONS:
            raise ValueError(f"fusion {fusion!r} is unknown: use one of {', '.join(FUSIONS)}")
        if members not in MEMBERS:
            raise ValueError(f"members {members!r} is unknown: use one of {', '.join(MEMBERS)}")
        if not students:
            raise ValueError("expected a student at least, got none")
        if not 0 <= own_columns <= embedding_dim:
            raise ValueError(f"own_columns = {own_columns} must be in [0, {embedding_dim}]")
        if members == "adapters":
            students = [(partial(adapters.make_member, make), size) for make, size in students]
        embedding_key, head_key, *group_keys = jax.random.split(key, 2 + len(students))
        self.groups = nnx.List(
            StudentGroup(partial(make, len(fields), embedding_dim), size, stack=stack, key=group_key)
            for (make, size), group_key in zip(students, group_keys, strict=True)
        )
        # One table for all: the shared embeddings, the students' own, the weights of linear models.
        self.embedding_dim = embedding_dim
        self.shared_dim = embedding_dim - own_columns
        self.passes = passes
        self.own_dim = sum((own_columns + group.own_dim) * group.size for group in self.groups)
        wide = sum(group.wide_dim * group.size for group in self.groups)
        self.embedding = Embedding(
            fields,
            self.shared_dim + self.own_dim + wide,
            own=self.own_dim + wide,
            wide=wide,
            students=self.num_students,
            regions=[
                (1, (self.shared_dim,)),
                *((group.size, (own_columns, group.own_dim)) for group in self.groups),
            ],
            shards=table_shards,
            rngs=make_rngs(embedding_key),
        )
        self.fusion = fusion
        if fusion == "concat":
            width = sum(group.hidden_size * group.size for group in self.groups)
            self.head = linear(width, 1, rngs=make_rngs(head_key))

    @property
    def num_students(self) -> int:
        """K."""
        return sum(group.size for group in self.groups)

    def __call__(
        self,
        ids: jax.Array,
        *,
        dense: jax.Array | None = None,
        train: bool = False,
        key: jax.Array | None = None,
        labels: jax.Array | None = None,
        sample_weights: jax.Array | None = None,
    ) -> Prediction:
        """Predict. In training BatchNorm uses and updates batch statistics, and `key` seeds dropout.

        `ids` [B, S] are fused (`Field`); values are not checked, and one outside of the table reads a row at
        its end. `labels` [B] are for the own losses of students that need them, which leave these out
        otherwise; `sample_weights` [B] weigh the rows of such losses. `dense` [B, n] are the numbers of n
        dense fields.
        """
        method = "hidden" if self.fusion == "concat" else "__call__"
        passes = self.passes if train else 1
        of_loss = {"labels": labels, "sample_weights": sample_weights}
        outputs, auxiliary_losses = self._run(
            ids, dense, method, train=train, key=key, passes=passes, **of_loss
        )
        own_loss = jnp.concatenate(auxiliary_losses) if train else None
        if self.fusion == "concat":
            hidden = jnp.concatenate([h for output in outputs for h in output], axis=-1)
            return Prediction(jnp.zeros((0, ids.shape[0])), self.head(hidden)[:, 0], own_loss)
        logits = jnp.concatenate(outputs)
        if passes > 1:
            assert own_loss is not None
            logits, self_loss = losses.self_transfer(
                jnp.swapaxes(logits, 0, 1), sample_weights=sample_weights
            )
            own_loss += self_loss
        return Prediction(logits, losses.fuse(logits, self.fusion), own_loss)

    def hidden(
        self,
        ids: jax.Array,
        *,
        dense: jax.Array | None = None,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, ...]:
        """The last hidden states behind `__call__`'s logits for the same key, [size, B, H] of each group."""
        return self._run(ids, dense, "hidden", train=train, key=key)[0]

    def _run(
        self,
        ids: jax.Array,
        dense: jax.Array | None,
        method: str,
        *,
        train: bool,
        key: jax.Array | None,
        passes: int = 1,
        **of_loss: jax.Array | None,
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        """Per group the outputs of its copies' `method`, and their own losses."""
        if key is None and train:
            raise ValueError("training needs a key for dropout")
        embeddings, owns = self._split(self.embedding(ids, dense))
        keys = [None] * len(self.groups) if key is None else list(jax.random.split(key, len(self.groups)))
        outputs, auxiliary_losses = zip(
            *(
                group(embeddings, own, train=train, key=key, method=method, passes=passes, **of_loss)
                for group, own, key in zip(self.groups, owns, keys, strict=True)
            ),
            strict=True,
        )
        return outputs, auxiliary_losses

    def student(self, k: int) -> "Ensemble":
        """Cut student `k` out: an ensemble of it alone, with those columns of the table that it reads.

        Raises IndexError unless 0 <= k < K.
        """
        alone = self.subset([k])
        (group,) = alone.groups
        # All that it reads is shared by all students then.
        alone.shared_dim, alone.own_dim = alone.embedding_dim, group.own_dim
        alone.embedding.own = group.own_dim + group.wide_dim
        return alone

    def subset(self, ks: Sequence[int]) -> "Ensemble":
        """Cut students out: the ensemble, by "mean", of them alone, with the columns that any of them reads.

        `ks` rise. Raises IndexError unless 0 <= k < K for each of them, ValueError without one or in another
        order.
        """
        columns = self.read_columns()
        for k in ks:
            if not 0 <= k < len(columns):
                raise IndexError(f"there is no student {k}: the ensemble has {len(columns)}")
        if not ks or list(ks) != sorted(set(ks)):
            raise ValueError(f"students {list(ks)}: expected one at least, and each once, in their order")
        cut = nnx.merge(*nnx.split(self), copy=True)
        own = [column for k in ks for column in columns[k][self.shared_dim :]]
        wide: list[int] = []
        groups = []
        first, start = 0, self.shared_dim + self.own_dim
        for group in cut.groups:
            kept = [k - first for k in ks if first <= k < first + group.size]
            for index in kept:
                wide += range(start + index * group.wide_dim, start + (index + 1) * group.wide_dim)
            first, start = first + group.size, start + group.size * group.wide_dim
            if kept:
                group.take(kept)
                groups.append(group)
        cut.groups = nnx.List(groups)
        cut.own_dim = len(own)
        embeddings = [*range(self.shared_dim), *own]
        read = jnp.array([*embeddings, *wide], int)
        cut.embedding.table = nnx.Param(self.embedding.table[...][:, read])
        for attention in cut.embedding.attention:
            attention.take(embeddings)
        for pretrained in cut.embedding.pretrained:
            pretrained.take(embeddings)
        cut.embedding.own, cut.embedding.wide = len(own) + len(wide), len(wide)
        cut.embedding.students = len(ks)
        if cut.fusion == "concat":
            del cut.head
        cut.fusion = "mean"
        return cut

    def read_columns(self) -> list[list[int]]:
        """Name the table's columns that each student reads as embeddings: the shared, then its own."""
        found, start = [], self.shared_dim
        for group in self.groups:
            width = self.embedding_dim - self.shared_dim + group.own_dim
            for _ in range(group.size):
                found.append([*range(self.shared_dim), *range(start, start + width)])
                start += width
        return found

    def _split(self, columns: jax.Array) -> tuple[jax.Array, list[jax.Array | None]]:
        """Columns of the table as [B, F, D] and what each group has to itself, [size, B, F, ...] or None."""
        own_columns = self.embedding_dim - self.shared_dim
        own_start = self.shared_dim
        wide_start = own_start + self.own_dim
        owns: list[jax.Array | None] = []
        for group in self.groups:
            own_stop, wide_stop = (
                own_start + group.size * (own_columns + group.own_dim),
                wide_start + group.size * group.wide_dim,
            )
            parts = [columns[..., own_start:own_stop], columns[..., wide_start:wide_stop]]
            per_copy = [jnp.moveaxis(x.reshape(*x.shape[:2], group.size, -1), 2, 0) for x in parts if x.size]
            owns.append(jnp.concatenate(per_copy, axis=-1) if per_copy else None)
            own_start, wide_start = own_stop, wide_stop
        return columns[..., : self.shared_dim], owns


def count_parameters(model: nnx.Module) -> int:
    """Number of trainable values."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
