"""FCN, fusing cross network, earlier DCNv3 (Li et al., 2024)."""

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax import losses
from ektf_jax.layers.blocks import check_count, check_layers, check_rate, dropout_keys, linear
from ektf_jax.students.ecn import GatedCross, halves


class FCN(nnx.Module):
    """A deep (exponential) and a shallow (linear) cross network: [B, F, D] -> logits [B], their mean.

    The authors' DCNv3. With `labels` in training it returns (logits [B], loss), what Tri-BCE adds to the
    cross-entropy L of the logits: max(0, L_d - L) L_d + max(0, L_s - L) L_s, where L_d and L_s are the two
    networks' own. The gradient flows through the weights, too. Of several heads each is a part of every
    embedding (the authors' embedding dimension is that of one head), and a network's logit is their mean.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        *,
        num_deep_layers: int = 3,
        num_shallow_layers: int = 4,
        deep_dropout: float = 0.1,
        shallow_dropout: float = 0.1,
        batch_norm: bool = True,
        num_heads: int = 1,
        rngs: nnx.Rngs,
    ):
        check_layers("num_deep_layers", num_deep_layers)
        check_layers("num_shallow_layers", num_shallow_layers)
        check_count("num_heads", num_heads)
        check_rate("deep_dropout", deep_dropout)
        check_rate("shallow_dropout", shallow_dropout)
        if embedding_dim % num_heads:
            raise ValueError(f"num_heads = {num_heads} must divide the embedding dimension {embedding_dim}")
        width = num_fields * (embedding_dim // num_heads)
        if width % 2:
            raise ValueError(
                f"{num_fields} fields of dimension {embedding_dim // num_heads} make an odd width, not halves"
            )
        self.num_heads = num_heads

        def network(layers: int, dropout: float) -> nnx.List[GatedCross]:
            return nnx.List(
                GatedCross(width, heads=num_heads, dropout=dropout, batch_norm=batch_norm, rngs=rngs)
                for _ in range(layers)
            )

        self.deep, self.shallow = (
            network(num_deep_layers, deep_dropout),
            network(num_shallow_layers, shallow_dropout),
        )
        self.deep_output, self.shallow_output = (linear(width, 1, rngs=rngs) for _ in range(2))

    def __call__(
        self,
        embeddings: jax.Array,
        *,
        train: bool = False,
        key: jax.Array | None = None,
        labels: jax.Array | None = None,
        sample_weights: jax.Array | None = None,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        keys = dropout_keys(key, len(self.deep) + len(self.shallow))
        x0 = deep = shallow = halves(embeddings, self.num_heads)
        for layer, layer_key in zip(self.deep, keys, strict=False):
            deep = layer(deep, deep, train=train, key=layer_key)
        for layer, layer_key in zip(self.shallow, keys[len(self.deep) :], strict=True):
            shallow = layer(x0, shallow, train=train, key=layer_key)
        parts = [self._logits(deep, self.deep_output), self._logits(shallow, self.shallow_output)]
        logits = (parts[0] + parts[1]) / 2
        if not train or labels is None:
            return logits
        loss = losses.ctr_loss(logits, labels, sample_weights=sample_weights)
        own = losses.ctr_loss(jnp.stack(parts), labels, sample_weights=sample_weights)
        return logits, jnp.sum(nnx.relu(own - loss) * own)

    def _logits(self, x: jax.Array, output: nnx.Linear) -> jax.Array:
        """The mean of the heads' logits. [B, N] or [B, heads, N] -> [B]."""
        return jnp.mean(output(x).reshape(x.shape[0], -1), axis=1)
