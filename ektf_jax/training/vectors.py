"""Pretrained vectors of a dataset: into a new model, and into what a trained one reads of each row."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from ektf_jax import sharding
from ektf_jax.config import Config
from ektf_jax.data import encoded
from ektf_jax.data.schema import Schema
from ektf_jax.embedding import Embedding
from ektf_jax.training import rundata


def put(config: Config, workdir: Path, schema: Schema, weights: Any) -> Any:
    """Weights (a tree, by its paths) with the vectors of the run's dataset, which lie as they do."""
    if not schema.has_vectors:
        return weights
    found = encoded.open_vectors(rundata.where(config, workdir), schema)

    def place(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        of = sharding.vectors_of(sharding.path_name(path))
        if of is None:
            return leaf
        return jax.make_array_from_callback(
            leaf.shape, leaf.sharding, lambda index: np.array(found[of][index])
        )

    return jax.tree_util.tree_map_with_path(place, weights)


def rows_read(embedding: Embedding) -> np.ndarray:
    """The table with what vectors add to its rows: [V, columns]. All processes take part."""
    table = np.array(sharding.gathered(embedding.table[...]))
    for (_, _, offset), pretrained in zip(embedding.given, embedding.pretrained, strict=True):
        vectors, kernel = (
            sharding.gathered(part[...]) for part in (pretrained.vectors, pretrained.projection.kernel)
        )
        table[offset : offset + len(vectors), : kernel.shape[1]] += vectors @ kernel
    return table
