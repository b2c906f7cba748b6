"""The peer trains to the end on an encoded dataset, and leaves what a report reads."""

import json

import numpy as np
import pytest

from benchmarks import accuracy, common
from ektf_jax.data import encoded
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.report import results
from ektf_jax.report.paper.names import NAMES
from tests import commands

from .conftest import PEER, needs_peer

FIELDS = [("user", 50, 1), ("tags", 9, 3), ("item", 20, 1)]


@pytest.fixture
def data(tmp_path):
    """An encoded dataset whose labels follow from the user: DIR."""
    schema = Schema("toy", make_fields(FIELDS), {"train": 600, "valid": 200, "test": 200}, {})
    splits = {}
    for seed, (name, rows) in enumerate(schema.splits.items()):
        ids = np.asarray(common.random_rows(schema, rows, seed).ids)
        ids[::2, 2] = 0  # an empty slot
        splits[name] = ids, (ids[:, 0] % 2).astype(np.float32)
    encoded.write(tmp_path / "data", schema, splits, None)
    return tmp_path / "data"


def test_columns_have_ids_of_their_own(data):
    schema = encoded.open_schema(data)
    split = encoded.open_split(data, "valid")
    found = accuracy.columns(schema, split)
    assert {name: column.shape for name, column in found.items()} == {
        **{"user": (200,), "tags": (200, 3), "item": (200,), "label": (200,)}
    }
    assert found["tags"][0, 1] == 0
    for field in schema.fields:
        assert found[field.name].max() < field.vocab_size
    item = schema.fields[2]
    np.testing.assert_array_equal(found["item"] + item.offset, split.ids[:, 4])


def train(data, workdir, *arguments):
    return commands.run(
        *("benchmarks.accuracy", "--config=configs/ml1m_ektf_mlp.py"),
        *(f"--config.data.path={data}", f"--workdir={workdir}", f"--peer_python={PEER}"),
        *("--config.data.batch_size=100", "--config.train.max_epochs=4", "--config.train.learning_rate=0.01"),
        *arguments,
    )


def test_another_method_is_refused(data, tmp_path):
    done = train(data, tmp_path / "run", "--config.transfer.name=kd")
    assert (done.returncode, done.stdout) == (2, "")
    assert "config.transfer as {'name': 'ektf'" in done.stderr


@needs_peer
def test_the_peer_leaves_a_result(data, tmp_path):
    done = train(data, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    (run,) = results.load(tmp_path / "run", names=NAMES)
    assert run.label == "EKTF of MLP"
    assert run.peer == accuracy.IMPLEMENTATION
    assert len(run.curve) == run.epochs <= 4
    assert run.best_epoch == 1 + int(np.argmax(run.curve))
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["valid"]["ensemble"]["auc"] == pytest.approx(max(run.curve), abs=1e-6)
    assert len(result["test"]["students"]) == 2
    assert run.ensemble.auc > 0.9
    assert "is there" in train(data, tmp_path / "run").stdout
