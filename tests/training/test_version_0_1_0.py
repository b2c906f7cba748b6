"""Runs that were begun with version 0.1.0 go on."""

import json

import pytest

from ektf_jax.training import loop, optimizer, training
from tests.compilation import optimizations
from tests.training import version_0_1_0


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def as_users_compile():
    """How the products and sums of a step are rounded is part of its bits."""
    with optimizations(True):
        yield


@pytest.fixture
def config(tiny_config):
    made = tiny_config(max_epochs=2)
    made["data"]["batch_size"] = 64  # no short batch: a step compiles once
    made["ensemble"]["num_students"] = 2
    return made


@pytest.fixture
def begun(tmp_path, config, monkeypatch):
    """A run of version 0.1.0, dead in the middle of its second epoch, two steps after a checkpoint."""

    def make_train_step(*args, **options):
        step = version_0_1_0.make_train_step(*args, **options)

        def dying(state, batch, rate):
            if int(state.step) == 42:
                raise Killed
            return step(state, batch.ids, batch.labels, rate)

        return dying

    with monkeypatch.context() as patch:
        patch.setattr(optimizer, "read", lambda train: version_0_1_0.make_optimizer(train.clip_norm))
        patch.setattr(training, "make_train_step", make_train_step)
        with pytest.raises(Killed):
            loop.train(config, tmp_path / "begun")
    assert (tmp_path / "begun" / "checkpoints" / "latest" / "40").exists()
    return tmp_path / "begun"


def test_a_run_in_the_middle_of_an_epoch_goes_on_to_the_same_bits(begun, tmp_path, config):
    resumed = loop.train(config, begun)
    whole = loop.train(config, tmp_path / "whole")
    for key in ("valid", "test", "best_epoch", "epochs"):
        assert resumed[key] == whole[key]
    lines = [(run / "metrics.jsonl").read_text() for run in (begun, tmp_path / "whole")]
    assert [json.loads(line) for line in lines[0].splitlines()] == [
        json.loads(line) for line in lines[1].splitlines()
    ]
