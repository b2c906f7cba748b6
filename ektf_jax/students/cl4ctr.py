"""CL4CTR: contrastive learning of feature representations (Wang et al., 2023)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import (
    check_choice,
    check_count,
    check_layers,
    check_rate,
    drop,
    dropout_keys,
    flatten,
    layer_norm_layer,
    linear,
)
from ektf_jax.students.deepfm import DeepFM
from ektf_jax.students.fm import FM

BASES = ("fm", "deepfm")


class EncoderLayer(nnx.Module):
    """A transformer encoder layer over the fields: one head, norms after the sums. [B, F, D] -> [B, F, D]."""

    def __init__(self, dim: int, feed_forward: int, *, dropout: float, rngs: nnx.Rngs):
        self.query, self.key, self.value, self.projection = (linear(dim, dim, rngs=rngs) for _ in range(4))
        self.expand = linear(dim, feed_forward, rngs=rngs)
        self.contract = linear(feed_forward, dim, rngs=rngs)
        self.norms = nnx.List(layer_norm_layer(dim, rngs=rngs) for _ in range(2))
        self.dropout = dropout

    def __call__(self, x: jax.Array, *, train: bool = False, key: jax.Array | None = None) -> jax.Array:
        keys = dropout_keys(key, 4)

        def dropped(values: jax.Array, i: int) -> jax.Array:
            return drop(values, self.dropout, train=train, key=keys[i])

        scores = self.query(x) @ self.key(x).swapaxes(1, 2) * x.shape[-1] ** -0.5
        attended = dropped(nnx.softmax(scores), 0) @ self.value(x)
        x = self.norms[0](x + dropped(self.projection(attended), 1))
        hidden = dropped(nnx.relu(self.expand(x)), 2)
        return self.norms[1](x + dropped(self.contract(hidden), 3))


def alignment(embeddings: jax.Array) -> jax.Array:
    """Mean squared distance of two rows' embeddings in the same field, over all pairs of rows. Scalar.

    Equal to the mean over pairs, from the sum of squared distances to the mean: no [B, B] array.
    """
    centred = embeddings - jnp.mean(embeddings, axis=0)
    rows, fields, _ = embeddings.shape
    return 2 * jnp.sum(centred**2) / ((rows - 1) * fields)


def uniformity(embeddings: jax.Array) -> jax.Array:
    """Mean cosine of two fields' embeddings in the same row, over all F * F pairs. Scalar.

    1e-4 in the denominator as the authors have it, so that near-zero embeddings count as orthogonal.
    """
    squares = jnp.sum(embeddings**2, axis=-1)
    # The root has no gradient at 0, where padding is.
    norms = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
    products = embeddings @ embeddings.swapaxes(1, 2)
    return jnp.mean(products / (norms[:, :, None] * norms[:, None, :] + 1e-4))


class CL4CTR(nnx.Module):
    """FM or DeepFM with self-supervised losses on its embeddings: [B, F, D] -> logits [B].

    In training it returns (logits [B], loss): alpha times the squared distance of two randomly masked
    views of a row, encoded by a transformer, plus beta times (alignment + uniformity). Both of the latter
    are over the batch, the fast variant of the authors' code. That code flattens the encoder's output
    [F, B, D] as if it were [B, F, D], which compares parts of different rows; here a view is one row's,
    as the paper has it.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        base: str = "fm",
        wide: str = "embeddings",
        hidden_units: Sequence[int] = (400, 400, 400),
        dropout: float = 0.1,
        batch_norm: bool = True,
        alpha: float = 1.0,
        beta: float = 0.01,
        mask_ratio: float = 0.5,
        encoder_layers: int = 3,
        encoder_units: int = 128,
        encoder_dropout: float = 0.2,
        rngs: nnx.Rngs,
    ):
        check_choice("base", base, BASES)
        check_rate("mask_ratio", mask_ratio)
        check_rate("encoder_dropout", encoder_dropout)
        check_layers("encoder_layers", encoder_layers)
        check_count("encoder_units", encoder_units)
        if base == "fm":
            self.base: FM | DeepFM = FM(num_fields, embedding_dim, wide=wide, rngs=rngs)
        else:
            self.base = DeepFM(
                num_fields,
                embedding_dim,
                wide=wide,
                hidden_units=hidden_units,
                dropout=dropout,
                batch_norm=batch_norm,
                rngs=rngs,
            )
        self.wide_dim = self.base.wide_dim
        self.encoder = nnx.List(
            EncoderLayer(embedding_dim, encoder_units, dropout=encoder_dropout, rngs=rngs)
            for _ in range(encoder_layers)
        )
        self.projections = nnx.List(
            linear(num_fields * embedding_dim, embedding_dim, rngs=rngs) for _ in range(2)
        )
        self.embedding_dim = embedding_dim
        self.alpha, self.beta, self.mask_ratio = alpha, beta, mask_ratio

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        base_key, loss_key = dropout_keys(key, 2)
        logits = self.base(embeddings, train=train, key=base_key)
        if not train:
            return logits
        shared = embeddings[..., : self.embedding_dim]
        loss = self.alpha * self._contrast(shared, loss_key)
        return logits, loss + self.beta * (alignment(shared) + uniformity(shared))

    def _contrast(self, embeddings: jax.Array, key: jax.Array | None) -> jax.Array:
        views = []
        for projection, view_key in zip(self.projections, dropout_keys(key, 2), strict=True):
            mask_key, *keys = dropout_keys(view_key, 1 + len(self.encoder))
            x = drop(embeddings, self.mask_ratio, train=True, key=mask_key)
            for layer, layer_key in zip(self.encoder, keys, strict=True):
                x = layer(x, train=True, key=layer_key)
            views.append(projection(flatten(x)))
        return jnp.mean(jnp.sum((views[0] - views[1]) ** 2, axis=1))
