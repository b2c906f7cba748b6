"""Optimizers and schedules of a config against optax's own, and the moving average of weights."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from ektf_jax.config import TrainConfig
from ektf_jax.data import encoded
from ektf_jax.errors import InputError
from ektf_jax.training import loop, optimizer, teachers
from ektf_jax.training.optimizer import make_average, rates
from tests.training.listening import before_step, raising, result_of


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adam", {}),
        ("adamw", {"weight_decay": 0.1}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        ("nadam", {}),
        ("adafactor", {"min_dim_size_to_factor": 2}),
        ("polyak_sgd", {}),
        ("lion", {"b1": 0.8}),
    ],
)
def test_an_optimizer_is_optaxs_after_the_clipping(name, options):
    parameters = {"x": jnp.arange(6.0).reshape(2, 3)}
    gradients = {"x": jnp.full((2, 3), 7.0)}
    ours = optimizer.read(TrainConfig(optimizer={"name": name, **options}, clip_norm=2.0))
    theirs = optax.chain(optax.clip_by_global_norm(2.0), getattr(optax, name)(0.25, **options))
    more = {"value": jnp.float32(3.0)} if name == "polyak_sgd" else {}
    updates = [
        chain.update(gradients, chain.init(parameters), parameters, **more)[0]
        for chain in (
            optax.with_extra_args_support(ours(jnp.float32(0.25))),
            optax.with_extra_args_support(theirs),
        )
    ]
    np.testing.assert_allclose(updates[0]["x"], updates[1]["x"], rtol=1e-6)
    assert np.any(updates[0]["x"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optimizer": {"name": "adm"}}, "config.train.optimizer.name 'adm' is unknown; did you mean 'adam'"),
        ({"optimizer": {"name": "optax:adam"}}, "config.train.optimizer.name 'optax:adam' is unknown"),
        ({"optimizer": {"name": "clip_by_global_norm"}}, "'clip_by_global_norm' is unknown"),
        ({"optimizer": {"name": "scale_by_learning_rate"}}, "'scale_by_learning_rate' is unknown"),
        ({"schedule": {"name": "join_schedules"}}, "'join_schedules' is unknown"),
        ({"schedule": {"name": "linear_schedule", "end_value": -1.0}}, "is negative or not finite"),
        ({"optimizer": {}}, "config.train.optimizer.name = None must be text"),
        ({"optimizer": {"name": "adam", "b3": 0.9}}, "'config.train.optimizer.b3' is unknown; did you mean"),
        ({"optimizer": {"name": "adam", "b1": "x"}}, "config.train.optimizer: "),
        ({"optimizer": {"name": "adam", "learning_rate": 1.0}}, "set config.train.learning_rate instead"),
        (
            {"schedule": {"name": "cosine"}},
            "config.train.schedule.name 'cosine' is unknown; did you mean 'cosine_",
        ),
        ({"schedule": {"name": "plateau", "decay": 1}}, "'config.train.schedule.decay' is unknown"),
        ({"schedule": {"name": "exponential_decay"}}, "config.train.schedule: "),
        ({"schedule": {"name": "cosine_decay_schedule", "decay_steps": -1}}, "config.train.schedule: "),
    ],
)
def test_what_optax_does_not_have_is_named(changes, said):
    train = dataclasses.replace(TrainConfig(), **changes)

    def look():
        optimizer.read(train)
        rates(train, 100)(0, 100, 1e-3)

    with pytest.raises(InputError) as caught:
        look()
    assert said in str(caught.value)


def test_the_plateaus_rate_is_that_of_every_step_and_rises_at_first():
    assert rates(TrainConfig(), 100)(5, 8, 1e-3).tolist() == [np.float32(1e-3)] * 3
    warm = rates(TrainConfig(warmup_steps=4), 100)
    np.testing.assert_allclose(warm(0, 6, 0.8), [0.2, 0.4, 0.6, 0.8, 0.8, 0.8], rtol=1e-6)
    assert warm(2, 6, 0.8).tolist() == warm(0, 6, 0.8)[2:].tolist()


@pytest.mark.parametrize(
    ("given", "theirs"),
    [
        ({"name": "cosine_decay_schedule"}, optax.cosine_decay_schedule(0.5, 90)),
        (
            {"name": "cosine_decay_schedule", "decay_steps": 7, "alpha": 0.1},
            optax.cosine_decay_schedule(0.5, 7, 0.1),
        ),
        ({"name": "exponential_decay", "decay_rate": 0.3}, optax.exponential_decay(0.5, 90, 0.3)),
        (
            {"name": "warmup_cosine_decay_schedule", "warmup_steps": 5},
            optax.warmup_cosine_decay_schedule(0.0, 0.5, 5, 90),
        ),
        (
            {"name": "warmup_cosine_decay_schedule", "warmup_steps": 5, "init_value": 0.25},
            optax.warmup_cosine_decay_schedule(0.25, 0.5, 5, 90),
        ),
        ({"name": "linear_schedule", "end_value": 0.1}, optax.linear_schedule(0.5, 0.1, 90)),
        ({"name": "constant_schedule"}, optax.constant_schedule(0.5)),
        ({"name": "linear_onecycle_schedule"}, optax.linear_onecycle_schedule(90, 0.5)),
        (
            {"name": "piecewise_constant_schedule", "boundaries_and_scales": {"3": 0.5, "60": 0.1}},
            optax.piecewise_constant_schedule(0.5, {3: 0.5, 60: 0.1}),
        ),
    ],
)
def test_a_schedule_is_optaxs_after_the_warmup(given, theirs):
    """Of each step, whatever the plateau says; without a length it is as long as the run after the warmup."""
    train = TrainConfig(learning_rate=0.5, schedule=given, warmup_steps=10)
    found = rates(train, 100)(0, 100, 1e-9)
    expected = [float(theirs(max(0, step - 10))) * min(1, (step + 1) / 10) for step in range(100)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_the_average_is_its_recurrence():
    values = [{"w": np.float32([i, -i]), "n": np.int32(i)} for i in range(1, 8)]
    start = {"w": jnp.float32([0.5, 0.5]), "n": jnp.int32(0)}
    update = make_average(start, 0.3)
    average, expected = jax.tree.map(jnp.copy, start), np.float64([0.5, 0.5])
    for n, value in enumerate(values, start=1):
        average = update(average, value, np.int32(n))
        d = min(0.3, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * value["w"]
    np.testing.assert_allclose(average["w"], expected, rtol=1e-6)
    assert int(average["n"]) == 7


class Moved(nnx.Module):
    def __init__(self, values):
        self.weight, self.norm, self.frozen = nnx.Param(values), nnx.BatchStat(values), Held(values)
        self.embedding = nnx.Dict(pretrained=nnx.List([nnx.Dict(vectors=nnx.Param(values))]))


class Held(nnx.Variable):
    pass


def test_what_is_held_fixed_stays_to_the_bit_and_what_moves_is_averaged():
    """Of pretrained vectors those that were never read, whatever their row's neighbours do."""
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(2, 500)).astype(np.float32)
    new[:250] = old[:250]
    states = [nnx.state(Moved(jnp.asarray(values))) for values in (old, new)]
    update = make_average(states[0], 0.3)
    found = nnx.to_pure_dict(update(jax.tree.map(jnp.copy, states[0]), states[1], np.int32(99)))
    mixed = np.float32(0.3) * old + (1 - np.float32(0.3)) * new
    assert np.any(mixed[:250] != old[:250])
    for values in (found["frozen"], found["embedding"]["pretrained"][0]["vectors"]):
        np.testing.assert_array_equal(values[:250], old[:250])
    for values in jax.tree.leaves(found):
        np.testing.assert_allclose(values, mixed, rtol=1e-5, atol=1e-6)


class Killed(Exception):
    pass


CHANGES = {
    "ema": 0.9,
    "optimizer": {"name": "adamw", "weight_decay": 0.01},
    "schedule": {"name": "cosine_decay_schedule"},
    "warmup_steps": 10,
    "max_epochs": 2,
}


@pytest.fixture(scope="module")
def make(tiny_config):
    def config(**changes):
        made = tiny_config(**CHANGES | changes)
        made["data"]["batch_size"] = 64  # no short batch: a step compiles once
        return made

    return config


@pytest.fixture(scope="module")
def averaged(tmp_path_factory, make):
    workdir = tmp_path_factory.mktemp("average") / "run"
    loop.train(make(), workdir)
    return workdir


def test_a_run_with_all_of_it_goes_on_to_the_same_bits(averaged, make, tmp_path):
    # Between a checkpoint in the second epoch and its end.
    with pytest.raises(Killed):
        loop.train(make(), tmp_path / "run", [before_step(34, raising(Killed))])
    result, whole = loop.train(make(), tmp_path / "run"), result_of(averaged)
    assert [result[key] for key in ("valid", "test", "best_epoch")] == [
        whole[key] for key in ("valid", "test", "best_epoch")
    ]
    lines = [(run / "metrics.jsonl").read_text() for run in (averaged, tmp_path / "run")]
    assert lines[0] == lines[1]


def test_the_average_is_what_is_evaluated_and_kept(averaged, make, tmp_path):
    """Beside a run without it, whose weights move alike: the average lags behind them."""
    result = result_of(averaged)
    assert loop.evaluate(averaged, "test") == result["test"]
    lines = [json.loads(line) for line in (averaged / "metrics.jsonl").read_text().splitlines()]
    assert result["valid"] == lines[result["best_epoch"] - 1]["valid"]
    plain = loop.train(make(ema=0.0), tmp_path / "plain")
    other = [json.loads(line) for line in (tmp_path / "plain" / "metrics.jsonl").read_text().splitlines()]
    assert [line["train"] for line in lines] == [line["train"] for line in other]
    assert plain["test"] != result["test"]
    schema = encoded.open_schema(averaged / "data")
    models = [teachers.predictor(run, schema)[0] for run in (averaged, tmp_path / "plain")]
    tables = [np.asarray(model.embedding.table[...]) for model in models]
    assert np.any(tables[0] != tables[1])
