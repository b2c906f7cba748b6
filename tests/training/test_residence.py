"""Rows on the devices and many steps a dispatch: the same bits as a batch and a step at a time."""

import dataclasses
import gc
import json
import os
import re
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from ektf_jax import sharding
from ektf_jax.config import Config
from ektf_jax.data import loader
from ektf_jax.data.encoded import Split
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.errors import InputError
from ektf_jax.training import loop, residence
from ektf_jax.training.listeners import Listener
from tests.compilation import AS_USERS_HAVE_XLA, XLA_COMPILES_FAST, compiles_fast, optimizations
from tests.training.listening import result_of


@pytest.fixture(scope="module", autouse=True)
def as_users_compile():
    """How the products and sums of a step are rounded is part of its bits."""
    with optimizations(True):
        yield


as_users_have_xla = pytest.mark.skipif(
    compiles_fast(), reason="as users have XLA: test_the_bits_of_this_file_as_users_have_xla"
)


@pytest.mark.slow
@pytest.mark.skipif(not compiles_fast(), reason="XLA is as users have it")
@pytest.mark.parametrize("marks", ["not long", pytest.param("long", marks=pytest.mark.long)])
def test_the_bits_of_this_file_as_users_have_xla(marks):
    """Only there is a part of a larger program compiled as it would be alone, see `layers/apart.py`."""
    flags = os.environ["XLA_FLAGS"].replace(XLA_COMPILES_FAST, AS_USERS_HAVE_XLA)
    names = [
        name for name, test in globals().items() if as_users_have_xla.mark in getattr(test, "pytestmark", [])
    ]
    options = ["-v", "-p", "no:cacheprovider", "-n", "0", "-k", " or ".join(names), "-m", marks]
    child = subprocess.run(
        [sys.executable, "-m", "pytest", *options, __file__],
        # Without a cache every run of the file would compile all of its programs: 6 minutes.
        env=os.environ | {"XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "true"},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stdout
    assert re.search(r"\n=* ?[1-9]\d* passed, \d+ deselected in ", child.stdout)  # none is skipped


EXACT = ("valid", "test", "best_epoch", "epochs", "params", "embedding_use")


def on(residence_, config, **keys):
    return config | {"data": config["data"] | {"residence": residence_} | keys}


def lines_of(workdir):
    return (workdir / "metrics.jsonl").read_text()


def assert_same_run(one, other):
    for key in EXACT:
        assert result_of(one)[key] == result_of(other)[key], key
    assert lines_of(one) == lines_of(other)


class Told(Listener):
    """Everything that a listener is told, and where the run was."""

    def __init__(self, stop_after=None):
        self.events, self.dispatches, self.stop_after = [], 0, stop_after

    def begin(self, run):
        train = run.rows.train

        def counted(*given):
            self.dispatches += 1
            return train(*given)

        run.rows.train = counted

    def _add(self, name, run, *told):
        self.events.append((name, run.progress.step, run.learning_rate, *told))

    def epoch_begins(self, run):
        self._add("epoch_begins", run)

    def stepped(self, run):
        self._add("stepped", run)
        if run.progress.step == self.stop_after:
            raise SystemExit(9)

    def logged(self, run, terms):
        self._add("logged", run, terms)

    def evaluated(self, run, *told):
        self._add("evaluated", run, *told)

    def saves(self, run):
        self._add("saves", run)


@pytest.fixture(scope="module")
def host(tiny_config, tmp_path_factory):
    """A run with its rows on the host: its directory, its config and what it told."""
    workdir, config, told = tmp_path_factory.mktemp("residence") / "host", tiny_config(ema=0.9), Told()
    loop.train(on("host", config), workdir, [told])
    return workdir, config, told


@as_users_have_xla
def test_many_steps_a_dispatch_are_the_same_run_and_tell_the_same(host, tmp_path):
    workdir, config, told = host
    ours = Told()
    loop.train(on("device", config), tmp_path, [ours])
    assert_same_run(workdir, tmp_path)
    assert ours.events == told.events
    assert told.dispatches == 100
    assert ours.dispatches < 50  # of 100 steps: those up to each seventh or tenth, and the short last ones


# The other runs have dispatches of one step, too: where they begin, and next to what is logged.
@pytest.mark.long
@as_users_have_xla
def test_one_step_a_dispatch_is_the_same_run(host, tmp_path):
    workdir, config, told = host
    ours = Told()
    one = on("device", config) | {"train": config["train"] | {"log_every": 1}}
    loop.train(one, tmp_path, [ours])
    assert_same_run(workdir, tmp_path)
    assert ours.dispatches == 100
    at = {event[1]: event for event in ours.events if event[0] == "logged"}
    assert all(at[event[1]] == event for event in told.events if event[0] == "logged")


@as_users_have_xla
def test_a_run_that_dies_within_dispatches_and_changes_sides_goes_on_to_the_same_bits(host, tmp_path):
    """Before the first checkpoint, after it, on the host, at an epoch's end, and in a later epoch."""
    workdir, config, _ = host
    for side, step in (("device", 3), ("device", 12), ("host", 33), ("device", 75), ("device", 88)):
        with pytest.raises(SystemExit):
            loop.train(on(side, config), tmp_path, [Told(step)])
    loop.train(on("device", config), tmp_path)
    assert_same_run(workdir, tmp_path)


@as_users_have_xla  # only as the run is there anyway
def test_a_checkpoint_says_where_the_batches_are_as_earlier_versions_read_it(host):
    (path,) = (host[0] / "checkpoints" / "latest").glob("100/progress/metadata")
    assert json.loads(path.read_text())["batches"] == {"next_index": 100}


def test_what_is_not_finite_within_a_dispatch_is_named_with_its_step(tiny_config, tmp_path):
    messages = []
    for side in ("host", "device"):
        config = tiny_config(learning_rate=1e30)
        with pytest.raises(InputError) as error:
            loop.train(on(side, config), tmp_path / side)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith("step ")


def test_a_run_that_has_ended_leaves_no_rows_on_the_devices(tiny_config, tmp_path):
    """Whatever the garbage collector does: a search trains run after run in one process."""

    def rows():
        return [array.shape for array in jax.live_arrays() if array.size >= 1600]

    gc.collect()
    gc.disable()
    try:
        threads, before = threading.active_count(), rows()
        loop.train(on("device", tiny_config()), tmp_path / "run")
        assert rows() == before
        assert threading.active_count() == threads
    finally:
        gc.enable()


FEATURES = {250: np.uint8, 257: np.uint16, 65_537: np.int32}


@pytest.mark.parametrize("features", FEATURES)
def test_ids_of_every_type_and_labels_come_back_as_they_were(tiny_config, features):
    fields = make_fields([("a", features - 1, 1), ("b", 2, 2)])
    schema = Schema("tiny", fields, {}, {})
    assert schema.num_features >= features
    rng, rows, size = np.random.default_rng(0), 37, 8
    ids = rng.integers(0, schema.num_features, (rows, 3)).astype(np.int32)
    ids[0] = schema.num_features - 1
    weights = rng.random(rows, np.float32) if features == 257 else None
    split = Split(ids, rng.integers(0, 2, rows).astype(np.float32), weights)
    config = Config.from_dict(tiny_config())
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=size))

    def seen(carry, fixed, batch, rate):
        assert fixed is None
        return carry + 1, residence.StepMetrics(batch.labels.sum(), batch, rate, rate, rate)

    mesh = sharding.make_mesh()
    found = residence.OnDevices(config, mesh, schema, {"train": split}, seen, {})
    assert found.resident("train").ids.dtype == FEATURES[features]
    source = loader.ShuffledBatches(split, size, seed=config.seed, epochs=2)
    wanted = [source[index] for index in range(len(source))]
    step, carry, rates = 0, jax.numpy.int32(0), np.arange(1, 6, dtype=np.float32)
    for most in (3, 7, 1, 2, 1, 1, 5):
        block = found.next(step, most)
        carry, metrics = found.train(carry, None, block, rates[: block.steps])
        for index in range(block.steps):
            batch = jax.tree.map(lambda leaf, at=index: np.asarray(leaf[at]), metrics.terms)
            jax.tree.map(np.testing.assert_array_equal, batch, wanted[step + index])
            assert batch.ids.dtype == np.int32
            assert metrics.own[index] == rates[index]
        step += block.steps
    assert step == int(carry) == 10
    expected = list(loader.evaluation_batches(split, size))
    for (batch, count), (other, others) in zip(found.evaluation_batches("train"), expected, strict=True):
        jax.tree.map(np.testing.assert_array_equal, batch, other)
        assert count == others


class Memory:
    def __init__(self, limit):
        self.limit = limit

    def memory_stats(self):
        return None if self.limit is None else {"bytes_limit": self.limit}


class Mesh:
    def __init__(self, limit):
        self.local_devices = [Memory(limit)]


SCHEMA = Schema("tiny", make_fields([("a", 300, 1), ("b", 31, 2)]), {}, {})
ROWS = Split(np.zeros((100, 3), np.int32), np.zeros(100, np.float32))
BYTES = 200 * (3 * 2 + 1) + 100 * 8  # two splits of 16-bit ids and a label, two orders of one


@pytest.mark.parametrize(
    ("asked", "limit", "there"),
    [
        ("auto", None, False),
        ("auto", 2 * BYTES, True),
        ("auto", 2 * BYTES - 1, False),
        ("host", 2 * BYTES, False),
        ("device", None, True),
        ("device", BYTES, True),
    ],
)
def test_where_the_rows_lie_is_asked_for_or_follows_from_the_memory(tiny_config, asked, limit, there):
    config = Config.from_dict(on(asked, tiny_config()))
    splits = {"train": ROWS, "valid": ROWS}
    assert residence.on_devices(config, Mesh(limit), SCHEMA, splits) == there


def test_rows_that_do_not_fit_are_an_error(tiny_config):
    config = Config.from_dict(on("device", tiny_config()))
    with pytest.raises(InputError, match=r"config\.data\.residence = 'device': the rows of train, valid are"):
        residence.on_devices(config, Mesh(BYTES - 1), SCHEMA, {"train": ROWS, "valid": ROWS})


def test_rows_that_a_device_cannot_count_stay_on_the_host(tiny_config):
    many = Split(np.broadcast_to(np.int32(1), (2**31, 3)), np.broadcast_to(np.float32(1), 2**31))
    splits = {"train": many, "valid": ROWS}
    config = Config.from_dict(on("auto", tiny_config()))
    assert not residence.on_devices(config, Mesh(1 << 60), SCHEMA, splits)
    with pytest.raises(InputError, match="a split has 2147483648 rows, and a device counts to 2147483647"):
        residence.check_room(Mesh(1 << 60), SCHEMA, splits)


def test_a_residence_that_is_none_is_refused(tiny_config):
    with pytest.raises(
        InputError, match=r"config\.data\.residence 'card' is unknown; valid: auto, device, host"
    ):
        Config.from_dict(on("card", tiny_config()))
