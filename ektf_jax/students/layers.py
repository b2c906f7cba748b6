"""Layers that several students share."""

import itertools
from collections.abc import Sequence

import jax
from flax import nnx

from ektf_jax.dropout import dropout


def linear(inputs: int, outputs: int, *, rngs: nnx.Rngs) -> nnx.Linear:
    """Linear layer with FuxiCTR's initialisers: Xavier normal, not truncated, and zero bias."""
    xavier_normal = nnx.initializers.variance_scaling(1.0, "fan_avg", "normal")
    return nnx.Linear(inputs, outputs, kernel_init=xavier_normal, rngs=rngs)


class HiddenLayers(nnx.Module):
    """Linear, BatchNorm, ReLU, dropout, once per width. [B, inputs] -> [B, hidden_units[-1]].

    BatchNorm has PyTorch's momentum (0.1 there, 0.9 here) and epsilon; its running variance is the batch's
    biased one, a factor of 1 - 1/B from PyTorch's. Dropout needs `key` in training.
    """

    def __init__(
        self, inputs: int, hidden_units: Sequence[int], *, dropout: float, batch_norm: bool, rngs: nnx.Rngs
    ):
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout = {dropout} must be in [0, 1)")
        if not hidden_units or any(not isinstance(width, int) or width < 1 for width in hidden_units):
            raise ValueError(f"hidden_units = {hidden_units} must be one or more whole numbers, at least 1")
        widths = (inputs, *hidden_units)
        self.linears = nnx.List(linear(i, o, rngs=rngs) for i, o in itertools.pairwise(widths))
        self.norms = nnx.List(
            nnx.BatchNorm(width, momentum=0.9, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
            for width in (hidden_units if batch_norm else ())
        )
        self.dropout = dropout

    def __call__(self, x: jax.Array, *, train: bool = False, key: jax.Array | None = None) -> jax.Array:
        for i, layer in enumerate(self.linears):
            x = layer(x)
            if self.norms:
                x = self.norms[i](x, use_running_average=not train)
            x = nnx.relu(x)
            if train and self.dropout > 0:
                assert key is not None, "training needs a key for dropout"
                x = dropout(x, self.dropout, jax.random.fold_in(key, i))
        return x
