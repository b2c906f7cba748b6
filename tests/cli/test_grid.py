"""Grids: which runs they make, what those are called, and what cannot be a grid."""

import itertools

import pytest

from ektf_jax.cli import config, grid
from ektf_jax.config import Config
from ektf_jax.errors import InputError
from tests import commands


def quickstart():
    return config.load("configs/quickstart.py")


def test_a_grid_has_a_run_for_every_combination():
    axes = ["train.learning_rate=1e-3,3e-4", "ensemble.students.*.dropout=0,0.1,0.2"]
    made = grid.runs(quickstart(), axes, 3)
    assert len(made) == 2 * 3 * 3
    base = Config.from_dict(quickstart())
    for rate, dropout, seed in itertools.product(("1e-3", "3e-4"), ("0", "0.1", "0.2"), range(3)):
        run = made[f"learning_rate-{rate}_dropout-{dropout}_s{base.seed + seed}"]
        expected = base.to_dict()
        expected["seed"] += seed
        expected["train"]["learning_rate"] = float(rate)
        for student in expected["ensemble"]["students"].values():
            student["dropout"] = float(dropout)
        assert Config.from_dict(run) == Config.from_dict(expected)


def test_a_grid_varies_every_run_of_a_sweep():
    made = grid.runs({"runs": {"a": quickstart(), "b/c": quickstart()}}, ["data.batch_size=256,512"], None)
    assert {name: run["data"]["batch_size"] for name, run in made.items()} == {
        "a_batch_size-256": 256,
        "a_batch_size-512": 512,
        "b/c_batch_size-256": 256,
        "b/c_batch_size-512": 512,
    }


def test_seeds_alone_are_runs():
    seed = quickstart()["seed"]
    assert list(grid.runs(quickstart(), [], 2)) == [f"s{seed}", f"s{seed + 1}"]


def test_keys_that_a_plain_config_leaves_out_can_vary():
    made = grid.runs({"data": {"batch_size": 8}}, ["train.patience=1,2"], 2)
    first = Config().seed
    assert list(made) == [f"patience-{n}_s{seed}" for n in (1, 2) for seed in (first, first + 1)]
    expected = {"data": {"batch_size": 8}, "train": {"patience": 2}, "seed": first + 1}
    assert made[f"patience-2_s{first + 1}"] == expected


def test_values_with_commas_stand_in_brackets():
    made = grid.runs(quickstart(), ["ensemble.students.mlp.hidden_units=(64,32),(16,)"], None)
    units = [run["ensemble"]["students"]["mlp"]["hidden_units"] for run in made.values()]
    assert units == [(64, 32), (16,)]
    assert list(made) == ["hidden_units-64-32", "hidden_units-16"]


def test_names_have_as_many_keys_as_tell_them_apart():
    made = grid.runs(quickstart(), ["transfer.ektf.kd=true,false", "transfer.ektf.dml=true,false"], None)
    assert "kd-true_dml-false" in made
    two = quickstart()
    two["ensemble"]["students"]["other"] = dict(two["ensemble"]["students"]["mlp"])
    axes = [f"ensemble.students.{name}.dropout=0,0.5" for name in ("mlp", "other")]
    assert "mlp.dropout-0_other.dropout-0.5" in grid.runs(two, axes, None)


@pytest.mark.parametrize(
    ("axes", "seeds", "match"),
    [
        (["train.learning_rate"], None, "names no values"),
        (["train.learning_rate="], None, "names no values"),
        (["train.learning_rate=1,1"], None, "a value is there twice"),
        (["seed=1,2", "seed=3,4"], None, "--grid=seed is given twice"),
        (
            ["train.learning_rate=1e-3,0.001"],
            None,
            "'learning_rate-1e-3' and 'learning_rate-0.001' are one run",
        ),
        (["ensemble.fusion=mean,(mean)"], None, "two runs are called 'fusion-mean'"),
        (["train.lerning.x=1"], None, r"the config has no group 'train\.lerning'"),
        (["train.patience=few"], None, r"train\.patience=few must be of type int"),
        (["train.*.x=1"], None, r"\btrain\.batch|no group"),
        (["seed.*.x=1"], None, "seed is no group of keys"),
        ([], 0, "--seeds=0 must be at least 1"),
    ],
)
def test_what_is_no_grid_is_named(axes, seeds, match):
    with pytest.raises(InputError, match=match):
        grid.runs(quickstart(), axes, seeds)


def test_the_command_lists_the_runs_of_a_grid(tmp_path):
    arguments = ["--config=configs/quickstart.py", f"--workdir={tmp_path}", "--list", "--seeds=2"]
    found = commands.run("experiments.sweep", *arguments, "--grid=train.learning_rate=1e-3,3e-4")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.count("to do") == 4
    assert "learning_rate-3e-4_s" in found.stdout
    found = commands.run("experiments.sweep", *arguments, "--grid=train.learning_rates=1")
    assert found.returncode == 2
    assert "did you mean 'config.train.learning_rate'" in found.stderr
