"""What a model is made of: parameters per part, FLOPs per sample, and the shapes that flow."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from ektf_jax.data.schema import ATTENTION
from ektf_jax.ensemble import Ensemble, StudentGroup, count_parameters
from ektf_jax.layers.adapters import SharedKernel
from ektf_jax.layers.pretrained import Frozen


def summarize_student(student: nnx.Module, num_fields: int, embedding_dim: int, *, depth: int = 2) -> str:
    """A table of a student's parts, for one sample: shapes, FLOPs, parameters (`nnx.tabulate`).

    `embedding_dim` counts the columns that the student owns, if any. `depth` is how far down parts are
    listed. FLOPs are XLA's count of the forward pass in evaluation mode.
    """
    graphdef, state = nnx.split(student)
    console = {"width": 140, "color_system": None, "force_terminal": False}
    tables: list[str] = []

    def tabulate(state: nnx.State, embeddings: jax.Array) -> None:
        model = nnx.merge(graphdef, state, copy=True)
        tables.append(
            nnx.tabulate(model, embeddings, depth=depth, compute_flops=True, console_kwargs=console)
        )

    # Of shapes alone: a model that is too large to be made can be summarised.
    jax.eval_shape(tabulate, state, _embeddings(num_fields, embedding_dim))
    return "\n".join(line.rstrip() for line in tables[0].strip().splitlines())


def summarize(model: Ensemble, num_fields: int, *, depth: int = 2) -> str:
    """One table per kind of student, the embedding table, the totals and training's memory.

    Of a model or of its shapes.

    Attention of lists to targets is a line by itself. FLOPs leave out the lookup in the embedding table and
    the fusion, which cost next to nothing.
    """
    rows, columns = model.embedding.table.shape
    lines, flops = [], 0
    for group in model.groups:
        student = _first_copy(group)
        width = _width(model, group)
        each = _flops(student, num_fields, width)
        flops += group.size * each
        kernels = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(student, SharedKernel)))
        shared = f", {kernels:,} of them shared," if kernels else ""
        lines += [
            f"{group.size} x {type(student).__name__}: {count_parameters(student):,} parameters{shared} and"
            f" {each:,} FLOPs per sample each",
            summarize_student(student, num_fields, width, depth=depth),
            "",
        ]
    attention = model.embedding.attention
    if attention:
        each = _attention_flops(model)
        flops += each
        lines += [
            f"attention of {len(attention)} fields to others: {count_parameters(attention):,} parameters and"
            f" {each:,} FLOPs per sample"
        ]
    if pretrained := model.embedding.pretrained:
        frozen = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(pretrained, Frozen)))
        lines += [
            f"pretrained vectors of {len(pretrained)} fields: {count_parameters(pretrained):,} parameters,"
            f" {frozen:,} numbers that are frozen"
        ]
    own = columns - model.shared_dim
    owned = f", {own} of them the students' own" if own else ""
    parameters = nnx.state(model, nnx.Param)
    moments = jax.eval_shape(optax.scale_by_adam().init, parameters)
    table = nnx.state(model.embedding, nnx.All(nnx.Param, nnx.PathContains("table")))
    weighs, adam, of_table = map(_mebibytes, (parameters, moments, table))
    return "\n".join(
        [
            *lines,
            f"embedding table: {rows:,} features x {columns} columns{owned}: {rows * columns:,} parameters",
            f"ensemble by {model.fusion}: {count_parameters(model):,} parameters, {flops:,} FLOPs per sample",
            f"in memory: {weighs:,.2f} MiB of parameters, {adam:,.2f} MiB of Adam's moments; the table is"
            f" {of_table:,.2f} MiB of the first and twice that of the second",
        ]
    )


def flops_per_sample(model: Ensemble, num_fields: int) -> int:
    """FLOPs of a forward pass, of attention and all students, as in `summarize`; of a model or its shapes."""
    return _attention_flops(model) + sum(
        group.size * _flops(_first_copy(group), num_fields, _width(model, group)) for group in model.groups
    )


def _attention_flops(model: Ensemble) -> int:
    """Of all fields that are attended by others."""
    columns = model.embedding.table.shape[1] - model.embedding.wide
    lists = [slots for _, _, slots, pooling in model.embedding.runs if pooling == ATTENTION]
    return sum(
        _flops_of(attention, _shape(1, columns), _shape(1, slots, columns))
        for attention, slots in zip(model.embedding.attention, lists, strict=True)
    )


def _mebibytes(tree: Any) -> float:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)) / 2**20


def _width(model: Ensemble, group: StudentGroup) -> int:
    """Columns of the table that a student reads of each field."""
    return model.embedding_dim + group.own_dim + group.wide_dim


def _first_copy(group: StudentGroup) -> nnx.Module:
    """The shapes of one copy."""
    graphdef, shared, *rest = nnx.split(group.students, SharedKernel, ...)
    (state,) = rest
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), state)
    return nnx.merge(graphdef, jax.eval_shape(lambda: shared), one)


def _flops(student: nnx.Module, num_fields: int, embedding_dim: int) -> int:
    return _flops_of(student, _embeddings(num_fields, embedding_dim))


def _flops_of(module: nnx.Module, *inputs: jax.ShapeDtypeStruct) -> int:
    graphdef, state = nnx.split(module)
    run = jax.jit(lambda state, *inputs: nnx.merge(graphdef, state)(*inputs))
    shapes = state, *inputs
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        cost = run.lower(*shapes).compile().cost_analysis()
    else:
        # Plugins of accelerators do not say what a program costs before it is compiled.
        with jax.default_device(cpu):
            cost = run.lower(*shapes).cost_analysis()
    assert cost is not None
    return int(cost.get("flops", 0))  # of a program without any there is no such key


def _embeddings(num_fields: int, embedding_dim: int) -> jax.ShapeDtypeStruct:
    """The input of a student for one sample."""
    return _shape(1, num_fields, embedding_dim)


def _shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, jnp.float32)
