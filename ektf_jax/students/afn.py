"""Adaptive factorization network with its parallel DNN, AFN* (Cheng et al., 2020)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import (
    DNN,
    batch_norm_layer,
    check_choice,
    check_count,
    dropout_keys,
    flatten,
    linear,
)

SMALLEST = 1e-5  # embeddings nearer to 0 have the logarithm of this, and no gradient; FuxiCTR's value


class AFN(nnx.Module):
    """Cross features of learned order, as sums of logarithms, and an MLP: [B, F, D] -> logits [B].

    As a student both parts read the shared embeddings (the authors' AFN); with dnn_embedding = "own" the
    MLP reads embeddings of its own, the last D columns of [B, F, 2 D] (FuxiCTR's AFN with ensemble_dnn).
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        dnn_embedding: str = "shared",
        logarithmic_neurons: int = 5,
        afn_hidden_units: Sequence[int] = (400, 400, 400),
        afn_dropout: float = 0.1,
        hidden_units: Sequence[int] = (400, 400, 400),
        dropout: float = 0.1,
        batch_norm: bool = True,
        rngs: nnx.Rngs,
    ):
        check_choice("dnn_embedding", dnn_embedding, ("shared", "own"))
        check_count("logarithmic_neurons", logarithmic_neurons)
        self.embedding_dim = embedding_dim
        self.own_dim = embedding_dim if dnn_embedding == "own" else 0
        self.log_norm = batch_norm_layer(num_fields, rngs=rngs)
        self.orders = linear(num_fields, logarithmic_neurons, use_bias=False, rngs=rngs)
        self.exp_norm = batch_norm_layer(logarithmic_neurons, rngs=rngs)
        self.afn = DNN(
            embedding_dim * logarithmic_neurons,
            afn_hidden_units,
            dropout=afn_dropout,
            batch_norm=batch_norm,
            rngs=rngs,
        )
        self.dnn = DNN(
            num_fields * embedding_dim, hidden_units, dropout=dropout, batch_norm=batch_norm, rngs=rngs
        )
        self.output = linear(2, 1, rngs=rngs)

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        afn_key, dnn_key = dropout_keys(key, 2)
        shared = embeddings[..., : self.embedding_dim]
        # Fields last, [B, D, F]: the channels of the norms and the inputs of the orders. The crosses stay so,
        # [B, D, L], for the dense layer (FuxiCTR's rows are in the order of [L, D]): turned round they cost a
        # CPU as much again as their products.
        logs = jnp.log(jnp.maximum(jnp.abs(shared.swapaxes(1, 2)), SMALLEST))
        crosses = jnp.exp(self.orders(self.log_norm(logs, use_running_average=not train)))
        crosses = self.exp_norm(crosses, use_running_average=not train)
        afn = self.afn(flatten(crosses), train=train, key=afn_key)
        dnn = self.dnn(flatten(embeddings[..., -self.embedding_dim :]), train=train, key=dnn_key)
        return self.output(jnp.stack([afn, dnn], axis=1))[:, 0]
