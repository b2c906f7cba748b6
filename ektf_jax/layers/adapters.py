"""Members that share their kernels: what makes an ensemble of many cost little more than one.

BatchEnsemble (Wen et al., ICLR 2020) as TabM has it (Gorishniy et al., ICLR 2025): all members of a stack
have one kernel per linear layer, and each has its own scales of that layer's inputs and outputs, its own
bias and its own normalisation.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.errors import InputError


class SharedKernel(nnx.Param[jax.Array]):
    """A kernel [inputs, outputs] that all members of a stack share: it has no axis of members."""


def make_member(
    make_student: Callable[..., nnx.Module], num_fields: int, embedding_dim: int, *, rngs: nnx.Rngs
) -> nnx.Module:
    """Make a student whose linear layers have scales, to be stacked by `StudentGroup` as a member.

    It also scales the embeddings [F, D] that it reads. These scales start at random signs, all others at 1:
    members that start alike and get the same gradients would never part. Raises InputError for a student
    without linear layers, which would be a whole copy for each member.
    """
    student: Any = make_student(num_fields, embedding_dim, rngs=rngs)
    layers = _linear_layers(student)
    if not layers:
        raise InputError(
            f"config.ensemble.members = 'adapters': {type(student).__name__} has no linear layer to share"
        )
    for layer in layers:
        kernel = layer.kernel[...]
        layer.kernel = SharedKernel(kernel)
        layer.input_scale, layer.output_scale = (
            nnx.Param(jnp.ones(size, kernel.dtype)) for size in kernel.shape
        )
    signs = jax.random.rademacher(rngs.params(), (num_fields, embedding_dim), jnp.float32)
    student.embedding_scale = nnx.Param(signs)
    return student


def one_kernel(stacked: nnx.State) -> nnx.State:
    """The state of a stack in which the first member's kernels are those of all."""
    kernels, rest = nnx.filter_state(stacked, SharedKernel, ...)
    return nnx.merge_state(jax.tree.map(lambda kernel: kernel[0], kernels), rest)


def adapted(student: nnx.Module, embeddings: jax.Array) -> jax.Array:
    """Scale a member's kernels, in place, and its embeddings [B, F, D]; nothing of any other student.

    Columns after the first D, which are a student's own beside the embeddings, stay as they are.
    """
    scale = getattr(student, "embedding_scale", None)
    if scale is None:
        return embeddings
    for layer in _linear_layers(student):
        # Of a batch, kernels are the smaller thing to scale: a diagonal matrix from either side.
        layer.kernel[...] = layer.input_scale[:, None] * layer.kernel[...] * layer.output_scale[...]
    beside = embeddings.shape[-1] - scale.shape[-1]
    return embeddings * jnp.pad(scale[...], ((0, 0), (0, beside)), constant_values=1)


def _linear_layers(student: nnx.Module) -> list[Any]:
    return [module for _, module in nnx.iter_graph(student) if isinstance(module, nnx.Linear)]
