"""Directed acyclic graph factorization machine, the student of KD-DAGFM (Tian et al., 2023)."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.layers.blocks import check_choice, check_layers, linear

INTERACTIONS = ("inner", "outer", "kernel")


class DAGFM(nnx.Module):
    """Fields are nodes that pass messages to themselves and later fields: [B, F, D] -> logits [B].

    With h_1 a linear mixture of the embeddings over fields, layer t makes
    h_{t+1, j} = h_{1, j} * sum_{i <= j} W_tij h_{t, i}: interactions of order t + 1. The D x D matrix W_tij
    is diagonal ("inner"), of rank one ("outer") or full ("kernel"). The logit is linear in the sums over D
    of all states. The authors' DAGFM, whose code has "inner" and "outer".

    The mixture starts as the identity and all W_tij start Xavier normal with gain sqrt(2), as the authors'
    "outer" does. Their "inner" is drawn from N(0, 1), sqrt(F D / 2) times as wide, which is not followed; in
    the DAGFM with a deep part of the same file it starts as here.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        interaction: str = "outer",
        depth: int = 3,
        rngs: nnx.Rngs,
    ):
        check_choice("interaction", interaction, INTERACTIONS)
        check_layers("depth", depth)
        self.interaction = interaction
        self.mixture = nnx.Param(jnp.eye(num_fields, dtype=jnp.float32))
        self.output = linear(num_fields * (depth + 1), 1, rngs=rngs)
        if embedding_dim < 1:
            raise ValueError("interactions need an embedding dimension of at least 1")
        deviation = math.sqrt(2 / (num_fields * embedding_dim))

        def weights(*shape: int) -> nnx.List:
            return nnx.List(
                nnx.Param(deviation * jax.random.normal(rngs.params(), shape, jnp.float32))
                for _ in range(depth)
            )

        pairs = (num_fields, num_fields, embedding_dim)
        self.weights = weights(*pairs, embedding_dim) if interaction == "kernel" else weights(*pairs)
        if interaction == "outer":
            self.directions = weights(*pairs)

    def __call__(
        self, embeddings: jax.Array, *, train: bool = False, key: jax.Array | None = None
    ) -> jax.Array:
        first = jnp.einsum("gf,bfd->bgd", self.mixture[...], embeddings)
        edges = jnp.triu(jnp.ones(self.mixture.shape, embeddings.dtype))  # from field i to field j >= i
        state, sums = first, [jnp.sum(first, axis=-1)]
        for layer in range(len(self.weights)):
            state = first * self._messages(state, edges, layer)
            sums.append(jnp.sum(state, axis=-1))
        return self.output(jnp.concatenate(sums, axis=1))[:, 0]

    def _messages(self, state: jax.Array, edges: jax.Array, layer: int) -> jax.Array:
        """Sum over i <= j of W_ij state_i for every field j. [B, F, D] -> [B, F, D]."""
        weights = self.weights[layer][...]
        if self.interaction == "kernel":
            return jnp.einsum("bid,ijde,ij->bje", state, weights, edges)
        if self.interaction == "inner":
            return jnp.einsum("bid,ijd,ij->bjd", state, weights, edges)
        scales = jnp.einsum("bid,ijd,ij->bij", state, weights, edges)
        return jnp.einsum("bij,ijd->bjd", scales, self.directions[layer][...])
