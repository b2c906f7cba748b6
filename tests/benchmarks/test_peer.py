"""The benchmarks' peer computes what ours does: same weights, losses equal step by step."""

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks import common
from ektf_jax import transfer
from ektf_jax.config import Config
from ektf_jax.data.loader import Batch
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.training import build
from ektf_jax.training.optimizer import make_optimizer
from ektf_jax.training.step import init_state, make_train_step

from .conftest import PEER, needs_peer

FIELDS = [("user", 9, 1), ("genres", 7, 3), ("item", 12, 1)]
ROWS, STEPS = 64, 6


def tiny(shape, num_students):
    """A shape's config without dropout, on tiny layers and batches, with steps large enough to matter."""
    config = common.config(shape, num_students)
    config["data"]["batch_size"], config["embedding"]["dim"], config["train"]["learning_rate"] = ROWS, 4, 0.01
    for student in config["ensemble"]["students"].values():
        student["dropout"] = 0.0
        if "hidden_units" in student:
            student["hidden_units"] = (8, 6)
    return config


def linear(weights, ours, theirs):
    found = {f"{ours}/kernel": weights[f"{theirs}.weight"].T}
    return found | {f"{ours}/bias": weights[f"{theirs}.bias"]} if f"{theirs}.bias" in weights else found


def norm(weights, ours, theirs):
    return {f"{ours}/scale": weights[f"{theirs}.weight"], f"{ours}/bias": weights[f"{theirs}.bias"]}


def mlp(weights, theirs, prefix=""):
    found = linear(weights, f"{prefix}output", f"{theirs}.output")
    for i in range(2):
        found |= linear(weights, f"{prefix}hidden_layers/linears/{i}", f"{theirs}.linears.{i}")
        found |= norm(weights, f"{prefix}hidden_layers/norms/{i}", f"{theirs}.norms.{i}")
    return found


def pnn(weights, theirs):
    return mlp(weights, theirs, "dnn/")


def final(weights, theirs):
    found = linear(weights, "gate/linear", f"{theirs}.gate")
    found |= linear(weights, "blocks/0/output", f"{theirs}.output")
    for i in range(2):
        found |= linear(weights, f"blocks/0/linears/{i}", f"{theirs}.linears.{i}")
        found |= norm(weights, f"blocks/0/norms/{i}", f"{theirs}.norms.{i}")
    return found


def ecn(weights, theirs):
    found = linear(weights, "output", f"{theirs}.output")
    for i in range(2):
        found |= linear(weights, f"layers/{i}/linear", f"{theirs}.linears.{i}")
        found |= norm(weights, f"layers/{i}/batch_norm", f"{theirs}.batch_norms.{i}")
        found |= norm(weights, f"layers/{i}/layer_norm", f"{theirs}.layer_norms.{i}")
        found[f"layers/{i}/bias"] = weights[f"{theirs}.biases.{i}"]
    return found


STUDENTS = {"mlp": mlp, "pnn": pnn, "final": final, "ecn": ecn}


def give(model, weights, labels):
    """Put the peer's weights, by name, into our model."""
    tables = [weights[f"embedding.tables.{name}.weight"] for name, _, _ in FIELDS]
    model.embedding.table[...] = np.concatenate(tables)
    start = 0
    for group in model.groups:
        copies = [STUDENTS[labels[k]](weights, f"students.{k}") for k in range(start, start + group.size)]
        state = nnx.state(group.students, nnx.Param)
        paths = {"/".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}
        assert paths.keys() == copies[0].keys()
        for path, leaf in paths.items():
            stacked = np.stack([copy[path] for copy in copies])
            assert stacked.shape == leaf.shape, path
            leaf[...] = stacked
        nnx.update(group.students, state)
        start += group.size


@needs_peer
@pytest.mark.parametrize(("shape", "num_students"), [("ml1m", 1), ("ml1m", 3), ("ml1m_latest", 3)])
def test_the_peer_and_ours_train_alike(shape, num_students, tmp_path):
    config = tiny(shape, num_students)
    schema = Schema("tiny", make_fields(FIELDS), {"train": 1, "valid": 1, "test": 1}, {})
    file = tmp_path / "peer.npz"
    peer = common.peer(config, schema, PEER, task="trace", steps=STEPS, file=str(file))
    weights = np.load(file)

    model = build.make_model(Config.from_dict(config), schema, jax.random.key(0))
    give(model, weights, Config.from_dict(config).ensemble.labels)
    optimizer = make_optimizer(config["train"]["clip_norm"])
    graphdef, state = init_state(model, optimizer, jax.random.key(1))
    step = make_train_step(
        graphdef, optimizer, transfer.read(Config.from_dict(config).transfer), l2=config["embedding"]["l2"]
    )
    columns = []
    for field in schema.fields:
        local = weights[f"batch/{field.name}"].reshape(ROWS, -1)
        columns.append(np.where(local == 0, 0, local + field.offset))
    ids, labels = np.concatenate(columns, axis=1).astype(np.int32), weights["batch/label"]
    losses = []
    for _ in range(STEPS):
        state, metrics = step(state, Batch(ids, labels), np.float32(config["train"]["learning_rate"]))
        losses.append(float(metrics.loss))
    assert peer["losses"][-1] < 0.98 * peer["losses"][0]
    np.testing.assert_allclose(losses, peer["losses"], rtol=2e-5)
