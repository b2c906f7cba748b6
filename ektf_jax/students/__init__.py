"""The students: networks that map field embeddings [B, F, D] to logits [B], one file per model.

A student is an NNX module `Student(num_fields, embedding_dim, *, ..., rngs)`, called as
`student(embeddings, train=False, key=None)`; `key` seeds its dropout in training.
"""

from flax import nnx

from ektf_jax.students.mlp import MLP

REGISTRY: dict[str, type[nnx.Module]] = {
    "mlp": MLP,
}
