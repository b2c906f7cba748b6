"""Run by test_sharding.py in processes of their own: the number of devices is fixed when JAX starts.

    python tests/on_devices.py losses '[[2, 2, 2], ...]' [HOST:PORT,PROCESSES,INDEX]
    python tests/on_devices.py variants '[2, 2, 2]'
    python tests/on_devices.py move WORKDIR '[2, 2, 2]' '[2, 1, 4]' 3
    python tests/on_devices.py residences WORKDIR '[[2, 2, 2], ...]'

`losses` prints, per mesh, the first predictions and the training losses of 50 steps, `variants` the same on
one mesh of ensembles that share less, or more, or teach themselves; `move` trains on one
mesh until it dies in an epoch, and goes on on another; `residences` trains, per mesh, a run with its rows on
the host and one with them on the devices.
"""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from configs import quickstart
from ektf_jax import sharding, transfer
from ektf_jax.cli import shell
from ektf_jax.data import loader
from ektf_jax.data.encoded import Split
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.ensemble import Ensemble
from ektf_jax.students import MLP, PNN
from ektf_jax.training import compiler, loop, step
from ektf_jax.training.listeners import Listener
from ektf_jax.training.optimizer import make_optimizer

STEPS, BATCH = 50, 64
VARIANTS = {
    "members with tables of their own": {"members": "adapters", "own_columns": 4},
    "a column of their own, self-transfer": {"own_columns": 1, "passes": 2},
}
# 157 features: no axis divides them.
_A, _B, _C, _D, _E, _F = make_fields(
    [("a", 40, 1), ("b", 31, 2), ("c", 30, 2), ("d", 31, 2), ("e", 3, 1), ("f", 22, 2)]
)
_C, _D, _E = replace(_C, pooling="sum"), replace(_D, pooling="max"), replace(_E, scale=(0.0, 1.0))
_B = replace(_B, pretrained=3, frozen=False)
SCHEMA = Schema("tiny", (_A, _B, _C, _D, _E, replace(_F, pooling="attention", target="a")), {}, {})


def make_split() -> Split:
    """Five epochs of 10 batches make 50 steps, and the last of each has 13 rows: no axis divides them."""
    rng = np.random.default_rng(0)
    rows = 9 * BATCH + 13
    fields = [(1, 40, 1), (41, 71, 2), (72, 101, 2), (102, 132, 2), (133, 135, 1), (136, 157, 2)]
    ids = np.concatenate([rng.integers(low, high, (rows, slots)) for low, high, slots in fields], axis=1)
    ids = ids.astype(np.int32)
    ids[::7, 2] = ids[::5, 3:5] = ids[::3, 5] = ids[::9, 6] = ids[::5, 8] = 0
    labels, dense = rng.integers(0, 2, rows).astype(np.float32), rng.normal(size=(rows, 1))
    return Split(ids, labels, dense=dense.astype(np.float32))


def losses(shape: list[int], **variant: Any) -> dict[str, Any]:
    """Train 4 MLPs and a PNN, dropout included, on one mesh."""
    mesh, split = sharding.make_mesh(*shape), make_split()
    make_model = partial(
        Ensemble,
        SCHEMA.fields,
        [(partial(MLP, hidden_units=(8,)), 4), (partial(PNN, hidden_units=(8,)), 1)],
        embedding_dim=4,
        stack="vmap" if shape[1] > 1 else "auto",
        table_shards=shape[2],
        key=jax.random.key(0),
        **variant,
    )
    optimizer = make_optimizer(10.0)
    graphdef, state = step.init_state_on(mesh, make_model, optimizer, jax.random.key(1))
    options = compiler.options("float32")
    train_step = step.make_train_step(
        graphdef, optimizer, transfer.make("ektf"), l2=0.01, mesh=mesh, compiler_options=options
    )
    gather = sharding.make_gather(mesh)
    batches, _ = loader.training_batches(split, BATCH, seed=0, epochs=5, gather=gather)
    batch, _ = next(loader.evaluation_batches(split, BATCH))
    prediction = step.make_predict(graphdef, mesh=mesh)(state.parameters, state.statistics, batch)
    logits = np.asarray(prediction.students).tolist()
    history = []
    for batch in batches:
        state, metrics = train_step(state, batch, np.float32(1e-3))
        history.append(float(metrics.loss))
    assert len(history) == STEPS
    table = state.parameters["embedding"]["table"][...]
    weights = state.parameters["groups"][0]["students"]["output"]["bias"][...]
    return {
        "losses": history,
        "logits": logits,
        "table_rows_per_device": table.addressable_shards[0].data.shape[0],
        "students_per_device": weights.addressable_shards[0].data.shape[0],
    }


def train(workdir: Path, shape: list[int], stop_after: int | None = None, **data: Any) -> None:
    """A tiny run of the whole loop, dying where a kill would hurt: before an epoch's checkpoint."""
    config = quickstart.get_config().to_dict()
    config["data"] |= {
        "batch_size": 64,
        "synthetic": {"rows": 2000, "values": (41, 20, 5), "max_lens": (1, 1, 3)},
        **data,
    }
    config["embedding"]["dim"] = 4
    config["ensemble"]["num_students"] = 4
    # Rounding moves a bias before BatchNorm, whose gradient is 0, by a step in either direction: training
    # does not see it, evaluation on running statistics does.
    config["ensemble"]["students"]["mlp"] |= {"hidden_units": (8,), "batch_norm": False}
    config["train"] |= {"max_epochs": 4, "patience": 100, "checkpoint_every": 10, "ema": 0.9}
    config["mesh"] = dict(zip(sharding.AXES, shape, strict=True))

    class Dies(Listener):
        def evaluated(self, run: Any, *told: Any) -> None:
            if run.epoch == stop_after:
                sys.exit(9)

    loop.train(config, workdir, [Dies()])


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "losses":
        if arguments[1:]:
            shell.join(arguments[1])
        print(json.dumps([losses(shape) for shape in json.loads(arguments[0])]))
    elif command == "variants":
        shape = json.loads(arguments[0])
        print(json.dumps({name: losses(shape, **variant) for name, variant in VARIANTS.items()}))
    elif command == "residences":
        for index, shape in enumerate(json.loads(arguments[1])):
            for side in ("host", "device"):
                train(Path(arguments[0], f"{index}_{side}"), shape, residence=side)
    else:
        workdir, first, second, stop = arguments
        try:
            train(Path(workdir), json.loads(first), int(stop))
        except SystemExit:
            train(Path(workdir), json.loads(second))
        else:
            sys.exit("the first run did not die")
