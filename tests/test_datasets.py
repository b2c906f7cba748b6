"""Each of the paper's datasets from raw files, here synthetic ones in its native format, to a result."""

import json

import pytest

from configs import ektf_mlp
from ektf_jax.data import criteo, encoded, generators, ipinyou, kdd12, kkbox, movielens
from ektf_jax.training import loop

PREPARE = {
    "criteo": criteo.prepare,
    "criteo_x4": criteo.prepare,
    "ml1m": movielens.prepare,
    "kdd12": kdd12.prepare,
    "ipinyou": ipinyou.prepare,
    "kkbox": kkbox.prepare,
    "kkbox_x1": kkbox.prepare,
}


def test_every_format_is_tried():
    assert set(PREPARE) == set(generators.DATASETS)


FAST = ("ml1m", "kdd12")


def _mark(name):
    """The x1 and x4 releases differ in their files alone, which tests/data reads."""
    if name in FAST:
        return ()
    return pytest.mark.long if "_x" in name else pytest.mark.slow


@pytest.mark.parametrize("name", [pytest.param(name, marks=_mark(name)) for name in PREPARE])
def test_raw_files_become_an_epoch_of_ektf_and_its_result(name, tmp_path):
    generators.write(name, tmp_path / "raw", rows=3000)
    schema = PREPARE[name](tmp_path / "raw", tmp_path / "encoded")
    config = ektf_mlp.get_config(schema.dataset)
    config.data.path = str(tmp_path / "encoded")
    config.data.batch_size = 240  # of 2,400 rows: no short batch, so a step compiles once
    config.ensemble.num_students = 3
    config.ensemble.students.mlp.hidden_units = (8,)
    config.train.max_epochs = 1
    loop.train(config.to_dict(), tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["dataset"]["name"] == schema.dataset == name.split("_")[0]
    assert result["dataset"]["features"] == encoded.open_schema(tmp_path / "encoded").num_features
    assert result["dataset"]["source"]["synthetic"] is True
    assert len(result["test"]["students"]) == 3
    assert 0 < result["test"]["ensemble"]["auc"] < 1
