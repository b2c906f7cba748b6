"""Layers that several students share."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ektf_jax.layers.activation import EPSILON, norm_relu_dropout
from ektf_jax.layers.dropout import dropout

MOST_LAYERS, MOST_UNITS = 1000, 2**16

XAVIER_NORMAL = nnx.initializers.variance_scaling(1.0, "fan_avg", "normal")  # not truncated


def linear(inputs: int, outputs: int, *, use_bias: bool = True, rngs: nnx.Rngs) -> nnx.Linear:
    """Linear layer with FuxiCTR's initialisers: Xavier normal and zero bias."""
    if inputs < 1:
        raise ValueError("a layer has no inputs: the embedding dimension must be at least 1")
    return nnx.Linear(
        inputs,
        outputs,
        use_bias=use_bias,
        kernel_init=XAVIER_NORMAL,
        dot_general=product_of_rows,
        rngs=rngs,
    )


def product_of_rows(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """x [..., inputs] times kernel [inputs, outputs], as `nnx.Linear` calls its `dot_general`.

    The leading axes are made one: on a CPU, XLA sums a kernel's gradient over several of them slowly.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[1])


def batch_norm_layer(width: int, *, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """BatchNorm over the last axis with PyTorch's momentum (0.1 there, 0.9 here) and epsilon.

    Its running variance is the batch's biased one, a factor of 1 - 1/B from PyTorch's.
    """
    return nnx.BatchNorm(width, momentum=0.9, epsilon=EPSILON, use_fast_variance=False, rngs=rngs)


def layer_norm_layer(width: int, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm over the last axis with PyTorch's epsilon."""
    return nnx.LayerNorm(width, epsilon=1e-5, use_fast_variance=False, rngs=rngs)


def dropout_keys(key: jax.Array | None, count: int) -> list[jax.Array | None]:
    """One key per part of a student that drops out; None each where there is none (evaluation)."""
    return [None] * count if key is None else list(jax.random.split(key, count))


def drop(x: jax.Array, rate: float, *, train: bool, key: jax.Array | None) -> jax.Array:
    """`x` with elements zeroed at `rate` in training, which needs a key; as it is in evaluation."""
    if not train or rate == 0:
        return x
    assert key is not None, "training needs a key for dropout"
    return dropout(x, rate, key)


def hidden_layer(
    x: jax.Array,
    layer: nnx.Linear,
    norm: nnx.BatchNorm | None,
    rate: float,
    *,
    train: bool,
    key: jax.Array | None,
) -> jax.Array:
    """Linear, BatchNorm if there is one, ReLU, dropout: [B, inputs] -> [B, width]."""
    if norm is None or not train:
        return norm_relu_drop(layer(x), norm, rate, train=train, key=key)
    # BatchNorm takes the bias out again: it reaches the running mean alone, and its gradient is 0. Left to
    # rounding, Adam would move it by whole steps.
    x = layer.dot_general(x, layer.kernel[...], (((1,), (0,)), ((), ())))
    bias = None if layer.bias is None else layer.bias[...]
    return norm_relu_drop(x, norm, rate, train=train, key=key, bias=bias)


def norm_relu_drop(
    x: jax.Array,
    norm: nnx.BatchNorm | None,
    rate: float,
    *,
    train: bool,
    key: jax.Array | None,
    bias: jax.Array | None = None,
) -> jax.Array:
    """BatchNorm if there is one, ReLU, dropout: [B, width] -> [B, width].

    `bias` [width] is what x was left without in training; the running mean counts it.
    """
    if norm is None or not train:
        x = x if norm is None else norm(x, use_running_average=True)
        return drop(nnx.relu(x), rate, train=train, key=key)
    assert key is not None or rate == 0, "training needs a key for dropout"
    assert norm.scale is not None
    assert norm.bias is not None
    y, mean, variance = norm_relu_dropout(x, norm.scale[...], norm.bias[...], rate, key)
    mean = mean if bias is None else mean + bias
    for running, batch in ((norm.mean, mean), (norm.var, variance)):
        running[...] = norm.momentum * running[...] + (1 - norm.momentum) * batch
    return y


def check_rate(name: str, rate: float) -> None:
    """Raise ValueError for a dropout rate outside [0, 1)."""
    if not 0 <= rate < 1:
        raise ValueError(f"{name} = {rate} must be in [0, 1)")


def check_widths(name: str, widths: Sequence[int]) -> None:
    """Raise ValueError unless there are 1 to 1,000 layers and each has 1 to 65,536 units."""
    if not 1 <= len(widths) <= MOST_LAYERS or any(not _is_count(width, MOST_UNITS) for width in widths):
        raise ValueError(
            f"{name} = {widths} must be one or more whole numbers, at least 1 and at most {MOST_UNITS}; there"
            f" can be {MOST_LAYERS} of them"
        )


def check_count(name: str, count: int, most: int = MOST_UNITS) -> None:
    """Raise ValueError unless a number of units, heads or the like is at least 1 and at most `most`."""
    if not _is_count(count, most):
        raise ValueError(f"{name} = {count} must be a whole number, at least 1 and at most {most}")


def check_layers(name: str, count: int) -> None:
    """Raise ValueError unless a number of layers or blocks is in [1, 1000]: a model is built one by one."""
    check_count(name, count, MOST_LAYERS)


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise ValueError unless an option has one of its values."""
    if value not in choices:
        raise ValueError(f"{name} = {value!r} is unknown: use one of {', '.join(map(repr, choices))}")


def flatten(embeddings: jax.Array) -> jax.Array:
    """[B, F, D] -> [B, F * D]."""
    return embeddings.reshape(embeddings.shape[0], -1)


class HiddenLayers(nnx.Module):
    """Linear, BatchNorm, ReLU, dropout, once per width. [B, inputs] -> [B, hidden_units[-1]].

    FuxiCTR's MLP_Block without its output layer. Dropout needs `key` in training.
    """

    def __init__(
        self, inputs: int, hidden_units: Sequence[int], *, dropout: float, batch_norm: bool, rngs: nnx.Rngs
    ):
        check_rate("dropout", dropout)
        check_widths("hidden_units", hidden_units)
        widths = (inputs, *hidden_units)
        self.linears = nnx.List(linear(i, o, rngs=rngs) for i, o in itertools.pairwise(widths))
        self.norms = nnx.List(
            batch_norm_layer(width, rngs=rngs) for width in (hidden_units if batch_norm else ())
        )
        self.dropout = dropout

    def __call__(self, x: jax.Array, *, train: bool = False, key: jax.Array | None = None) -> jax.Array:
        for i, layer in enumerate(self.linears):
            norm = self.norms[i] if self.norms else None
            x = hidden_layer(x, layer, norm, self.dropout, train=train, key=_layer_key(key, i))
        return x

    def fold_norms(self) -> None:
        """Let the linear layers do what BatchNorm does in evaluation; they cannot be trained any more.

        Also of a stack's, whose arrays have a leading axis; members that share their kernels keep BatchNorm.
        """
        for layer, norm in zip(self.linears, self.norms, strict=False):  # there may be no norms
            assert layer.bias is not None
            assert norm.scale is not None
            assert norm.bias is not None
            if layer.kernel[...].ndim != layer.bias[...].ndim + 1:
                return
            parts = norm.mean[...], norm.var[...], norm.scale[...], norm.bias[...]
            mean, variance, scale, shift = (np.asarray(part, np.float64) for part in parts)
            factor = scale / np.sqrt(variance + norm.epsilon)
            kernel, bias = (np.asarray(part[...], np.float64) for part in (layer.kernel, layer.bias))
            layer.kernel[...] = jnp.asarray(kernel * factor[..., None, :], jnp.float32)
            layer.bias[...] = jnp.asarray((bias - mean) * factor + shift, jnp.float32)
        self.norms = nnx.List()


class DNN(nnx.Module):
    """Hidden layers and a linear output: FuxiCTR's MLP_Block with one output. [B, inputs] -> logits [B]."""

    def __init__(
        self, inputs: int, hidden_units: Sequence[int], *, dropout: float, batch_norm: bool, rngs: nnx.Rngs
    ):
        self.hidden_layers = HiddenLayers(
            inputs, hidden_units, dropout=dropout, batch_norm=batch_norm, rngs=rngs
        )
        self.output = linear(hidden_units[-1], 1, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False, key: jax.Array | None = None) -> jax.Array:
        return self.output(self.hidden_layers(x, train=train, key=key))[:, 0]


class Wide(nnx.Module):
    """The linear part of a wide student. [B, F, D] or, over ids, [B, F, D + 1] -> logits [B].

    Over "ids" it has a weight for each feature, as the original models do: the last column of its input,
    from a column of the table that is this student's own (`Student.wide_dim`). Over "embeddings" it reads
    the shared ones, as the authors' students do.
    """

    SOURCES = ("embeddings", "ids")

    def __init__(self, num_fields: int, embedding_dim: int, *, source: str, use_bias: bool, rngs: nnx.Rngs):
        check_choice("wide", source, self.SOURCES)
        self.source = source
        if source == "embeddings":
            self.linear = linear(num_fields * embedding_dim, 1, rngs=rngs)
        else:
            self.bias = nnx.Param(jnp.zeros((), jnp.float32)) if use_bias else None

    @property
    def columns(self) -> int:
        """Weights per feature that this part needs of the table."""
        return int(self.source == "ids")

    def __call__(self, embeddings: jax.Array) -> jax.Array:
        if self.source == "embeddings":
            return self.linear(flatten(embeddings))[:, 0]
        weights = jnp.sum(embeddings[..., -1], axis=1)
        return weights if self.bias is None else weights + self.bias[...]


def _layer_key(key: jax.Array | None, layer: int) -> jax.Array | None:
    return None if key is None else jax.random.fold_in(key, layer)
