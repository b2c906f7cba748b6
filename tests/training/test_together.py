"""Runs that are trained together are what they are alone, also over a stop."""

import contextlib
import json
import signal
from dataclasses import replace

import jax
import pytest

from ektf_jax.config import Config
from ektf_jax.data import synthetic
from ektf_jax.ensemble import count_parameters
from ektf_jax.errors import InputError
from ektf_jax.runs import sweep
from ektf_jax.training import build, loop, stopping, together
from tests.training.listening import result_of

# Seed, learning rate, L2.
DIFFERENT = {"one": (1, 1e-2, 1e-3), "two": (2, 1e-2, 1e-3), "three": (2, 3e-3, 1e-2)}
EXACT = ("valid", "test", "best_epoch", "epochs", "params", "embedding_use", "seed", "config")


@pytest.fixture(scope="module")
def runs(tiny_config, tmp_path_factory):
    """Three configs on one dataset, with an average of the weights; the second one stops early."""
    config = tiny_config(ema=0.9, patience=1, max_epochs=3, min_delta=0.026)
    config["data"]["batch_size"] = 64  # whole batches alone: half of what is compiled
    config = Config.from_dict(config)
    data = tmp_path_factory.mktemp("together") / "data"
    synthetic.prepare(build.make_synthetic_spec(config), data)
    config = replace(config, data=replace(config.data, path=str(data)))
    return {
        name: replace(
            config,
            seed=seed,
            train=replace(config.train, learning_rate=rate),
            embedding=replace(config.embedding, l2=l2),
        )
        for name, (seed, rate, l2) in DIFFERENT.items()
    }


@pytest.fixture(scope="module")
def alone(runs, tmp_path_factory):
    directory = tmp_path_factory.mktemp("alone")
    for name, config in runs.items():
        loop.train(config, directory / name)
    return directory


def located(runs, directory):
    return {directory / name: config for name, config in runs.items()}


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same(one, other):
    for key in EXACT:
        assert result_of(one)[key] == result_of(other)[key], key
    assert lines(one) == lines(other)


def assert_close(one, other):
    """Equal to the rounding of some dozen steps, each order of rows and each dropout the same."""
    assert result_of(one).keys() == result_of(other).keys()
    for key in ("config", "seed", "epochs", "best_epoch"):
        assert result_of(one)[key] == result_of(other)[key], key
    for key in ("valid", "test"):
        assert_near(result_of(one)[key], result_of(other)[key])
    for expected, found in zip(lines(one), lines(other), strict=True):
        assert_near(expected, found)


def assert_near(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_near(one[key], other[key])
    elif isinstance(one, list):
        for expected, found in zip(one, other, strict=True):
            assert_near(expected, found)
    else:
        assert other == pytest.approx(one, rel=1e-3, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("width", [pytest.param(1, marks=pytest.mark.long), 4])
def test_they_are_what_they_are_alone(runs, alone, tmp_path, width):
    assert loop.train_together(located(runs, tmp_path), width) == {}
    for name in runs:
        assert_close(alone / name, tmp_path / name)
    # Whose ends differ: those who went on did so without the others.
    assert len({result_of(tmp_path / name)["epochs"] for name in runs}) > 1
    assert loop.train_together(located(runs, tmp_path), width) == {}  # finished


@pytest.mark.slow
@pytest.mark.parametrize("width", [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_stop_saves_all_and_any_of_them_may_go_on_alone(runs, alone, tmp_path, monkeypatch, width):
    """Those that are behind catch up; one by one they have the bits of a group that was not disturbed."""

    @contextlib.contextmanager
    def soon():
        calls = iter(range(10))
        yield lambda: signal.SIGTERM if next(calls, None) is None else 0

    with monkeypatch.context() as patched:
        patched.setattr(stopping, "requests", soon)
        with pytest.raises(stopping.Stopped, match="which is saved") as found:
            loop.train_together(located(runs, tmp_path), width)
    assert found.value.status == 128 + signal.SIGTERM
    steps = {newest(tmp_path / name) for name in runs}
    assert min(steps) > 0
    assert len(steps) > 1
    if width == 2:
        loop.train(runs["one"], tmp_path / "one")
    assert loop.train_together(located(runs, tmp_path), width) == {}
    if width == 1:
        whole = tmp_path / "whole"
        loop.train_together(located(runs, whole), width)
    for name in runs:
        if width == 1:
            assert_same(whole / name, tmp_path / name)
        else:
            assert_close(alone / name, tmp_path / name)


def newest(workdir):
    return max(int(path.name) for path in (workdir / "checkpoints" / "latest").glob("[0-9]*"))


@pytest.mark.slow
def test_a_run_that_fails_leaves_the_others(runs, alone, tmp_path):
    bad = replace(runs["three"], train=replace(runs["three"].train, learning_rate=1e37))
    with pytest.raises(InputError, match=r"three: .*try a lower config.train.learning_rate"):
        sweep.train({"one": runs["one"], "three": bad}, tmp_path)
    told = json.loads((tmp_path / "three" / "failure.json").read_text())["reason"]
    assert "try a lower config.train.learning_rate" in told
    assert_close(alone / "one", tmp_path / "one")
    assert not (tmp_path / "three" / "result.json").exists()


def test_what_may_be_trained_together(runs):
    assert len({together.recipe(config) for config in runs.values()}) == 1
    one = runs["one"]
    others = [
        replace(one, train=replace(one.train, patience=7)),
        replace(one, ensemble=replace(one.ensemble, num_students=2)),
        replace(one, data=replace(one.data, batch_size=80)),
    ]
    assert len({together.recipe(config) for config in [one, *others]}) == 4
    generated = replace(one, data=replace(one.data, path=""))
    taught = replace(one, transfer=replace(one.transfer, teachers=("runs/teacher",)))
    assert [together.recipe(config) for config in (generated, taught)] == [None, None]


def test_room_is_for_as_many_as_half_of_the_memory_holds(runs, monkeypatch):
    one = runs["one"]  # its weights have an average
    plain = replace(one, train=replace(one.train, ema=0.0))
    schema = build.open_schema(one)
    numbers = count_parameters(build.make_model(one, schema, jax.random.key(0)))
    for config, copies in ((one, 5), (plain, 4)):
        for many in (1, 3):
            monkeypatch.setattr(together, "_memory", lambda: 2 * many * copies * 4 * numbers)  # noqa: B023
            assert together.room(config) == many
    monkeypatch.setattr(together, "_memory", lambda: 1)
    assert together.room(one) == 1


def test_a_sweep_trains_no_more_at_once_than_fit(runs, alone, tmp_path, monkeypatch):
    taken = []

    def train_together(part, width):
        taken.append([workdir.name for workdir in part])
        return trained(part, width)

    trained = loop.train_together
    monkeypatch.setattr(loop, "train_together", train_together)
    monkeypatch.setattr(together, "room", lambda config: 2)
    sweep.train(runs, tmp_path)
    assert taken == [["one", "two"], ["three"]]
    for name in runs:
        assert_same(tmp_path / name, alone / name)
