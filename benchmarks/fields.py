"""What a list, attention over it and vectors of others cost a training step: results/benchmarks/fields.json.

    python -m benchmarks.fields [--slots=20] [--numbers=64] [--steps=10] [--turns=5]

One MLP on rows of ML-1M's shape with a list of `--slots` movies beside them, in one process: without the
list; with its sum; with attention of the movie to it; and with the sum where movie and list have pretrained
vectors of `--numbers` numbers, frozen or trained. Each way takes its steps in turn, on the same batch.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from absl import logging

from benchmarks import common
from ektf_jax import ensemble, transfer
from ektf_jax.config import Config
from ektf_jax.data.loader import Batch
from ektf_jax.data.schema import ATTENTION, Field, Schema
from ektf_jax.training import build, compiler
from ektf_jax.training.optimizer import make_optimizer
from ektf_jax.training.step import init_state, make_train_step

SHAPE, TARGET, LIST = "ml1m_mlp", "MovieID", "Viewed"
# What the list is, and what it and its target have beside.
WAYS: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {
    "no list": (None, {}),
    "sum": ({"pooling": "sum"}, {}),
    "attention": ({"pooling": ATTENTION, "target": TARGET}, {}),
    "sum, frozen vectors": ({"pooling": "sum"}, {"frozen": True}),
    "sum, trained vectors": ({"pooling": "sum"}, {"frozen": False}),
}


def schema(way: str, slots: int, numbers: int) -> Schema:
    """ML-1M's fields and, last of them, the list as a way has it."""
    as_list, vectors = WAYS[way]
    if vectors:
        vectors = vectors | {"pretrained": numbers}
    whole = common.schema(SHAPE)
    fields = [replace(field, **vectors) if field.name == TARGET else field for field in whole.fields]
    if as_list is not None:
        (target,) = (field for field in fields if field.name == TARGET)
        fields.append(Field(LIST, target.vocab_size, whole.num_features, slots, **as_list, **vectors))
    return replace(whole, fields=tuple(fields))


class Steps:
    """The training step of a way, compiled, and what it has been trained to."""

    def __init__(self, config: Config, schema: Schema, batch: Batch):
        self.batch = Batch(np.asarray(batch.ids)[:, : schema.num_slots], batch.labels)
        self.rate = np.float32(config.train.learning_rate)
        model = build.make_model(config, schema, jax.random.key(0))
        for vectors in model.embedding.pretrained:
            shape = vectors.vectors[...].shape
            vectors.vectors[...] = jax.random.normal(jax.random.key(2), shape)
        self.params = ensemble.count_parameters(model)
        optimizer = make_optimizer(config.train.clip_norm)
        graphdef, self.state = init_state(model, optimizer, jax.random.key(1))
        options = compiler.options(config.ensemble.matmul_dtype)
        method = transfer.read(config.transfer)
        self.step: Callable[..., Any] = make_train_step(
            graphdef, optimizer, method, l2=config.embedding.l2, compiler_options=options
        )

    def take(self, count: int) -> float:
        """The median seconds of so many steps."""
        times = []
        for _ in range(count):
            started = time.perf_counter()
            self.state, _ = jax.block_until_ready(self.step(self.state, self.batch, self.rate))
            times.append(time.perf_counter() - started)
        return float(np.median(times))


def measure(config: Config, slots: int, numbers: int, steps: int, turns: int) -> list[dict[str, Any]]:
    """What a step takes in every way, over turns, and how many times what it takes with the sum."""
    batch = common.random_rows(schema("sum", slots, numbers), config.data.batch_size)
    ways = {way: Steps(config, schema(way, slots, numbers), batch) for way in WAYS}
    for one in ways.values():
        one.take(2)  # compiles
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(turns):
        for way, one in ways.items():
            seconds[way].append(one.take(steps))
    return [
        _told(way, ways[way].params, found, seconds["sum"], config.data.batch_size)
        for way, found in seconds.items()
    ]


def _told(
    way: str, params: int, seconds: Sequence[float], of_sum: Sequence[float], rows: int
) -> dict[str, Any]:
    return {
        "way": way,
        "params": params,
        "step_seconds": common.spread(seconds, 4),
        "samples_per_second": round(rows / float(np.median(seconds))),
        "times_the_sum": common.spread([one / other for one, other in zip(seconds, of_sum, strict=True)]),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fields")
    parser.add_argument("--slots", type=int, default=20, help="movies in the list, none of them padding")
    parser.add_argument("--numbers", type=int, default=64, help="numbers of a pretrained vector")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of a turn")
    parser.add_argument("--turns", type=int, default=5, help="turns of each way")
    given = parser.parse_args()
    logging.set_verbosity(logging.WARNING)
    config = Config.from_dict(common.config(SHAPE, 1))
    cases = measure(config, given.slots, given.numbers, given.steps, given.turns)
    common.write(
        "fields",
        {
            "versions": common.versions("jax", "jaxlib", "flax", "optax"),
            "batch_size": config.data.batch_size,
            "slots": given.slots,
            "numbers": given.numbers,
            "cases": cases,
        },
    )
    print(json.dumps(cases))


if __name__ == "__main__":
    main()
