"""Runs, sweeps and teachers over what is no finished run, no plain config and no name of a run."""

import copy
import json
import re
import sys
import types

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from flax import nnx

from ektf_jax.config import Config
from ektf_jax.data import encoded
from ektf_jax.data.schema import SPLITS, Schema, make_fields
from ektf_jax.errors import InputError
from ektf_jax.keys import plain
from ektf_jax.runs import sweep
from ektf_jax.training import build, loop, record, teachers

BROKEN = {
    "nothing": b"",
    "object": b"{}",
    "list": b"[]",
    "null": b"null",
    "text": b"\xff",
    "config": b'{"config": {}}',
}


def readers(workdir, config):
    """All that reads a run's result.json."""
    taught = copy.deepcopy(config)
    taught["ensemble"]["num_students"] = 1
    taught["transfer"] |= {"name": "eckd", "teachers": ("../run",)}
    return {
        "train": lambda: loop.train(config, workdir),
        "evaluate": lambda: loop.evaluate(workdir, "test"),
        "plan": lambda: sweep.plan({"run": Config.from_dict(config)}, workdir.parent),
        "teachers": lambda: teachers.check(Config.from_dict(taught), workdir.parent / "pupil"),
    }


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("reader", ["train", "evaluate", "plan", "teachers"])
def test_a_result_that_is_none_is_named(tmp_path, tiny_config, name, reader):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "result.json").write_bytes(BROKEN[name])
    with pytest.raises(
        InputError, match=rf"{re.escape(str(workdir))}/result\.json: .*; restore it, or delete"
    ):
        readers(workdir, tiny_config())[reader]()


WITHOUT_A_NAME = {"data": {"path": ""}, "ensemble": {"students": {"a": 1}}, "transfer": {"name": ""}}
SHAPED = [
    ("config.json", {"a": 1}),
    ("config.json", WITHOUT_A_NAME),
    ("resolved.json", {}),
    ("resolved.json", {"students": 3, "teachers": {}}),
    ("result.json", {"config": {}}),
    ("result.json", {"config": 3}),
    ("result.json", {"config": {"ensemble": {}}}),
    ("dataset.json", {}),
    ("dataset.json", {"schema_sha256": 3}),
    ("dataset.json", {"schema_sha256": "", "arrays": []}),
]


@pytest.mark.parametrize(("name", "content"), SHAPED)
def test_a_file_of_a_run_that_holds_something_else_is_named(tmp_path, tiny_config, name, content):
    (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    schema = Schema("clicks", make_fields([("a", 4, 1), ("b", 5, 2)]), dict.fromkeys(SPLITS, 1), {})

    def look():
        record.check_run(tmp_path, Config.from_dict(tiny_config()))
        record.check_data(tmp_path, schema, "data")

    with pytest.raises(InputError) as caught:
        look()
    named = "config.ensemble.students.a must be" if content is WITHOUT_A_NAME else f"{tmp_path / name}: "
    assert str(caught.value).startswith(named)


def test_a_line_of_metrics_that_is_no_text_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"epoch": 1}\n\xff\xfe\x00\n{"epoch": 2}\n{"epo')
    record.drop_lines_after(tmp_path / "metrics.jsonl", 1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"epoch": 1}\n'


def test_scalars_of_numpy_and_jax_are_numbers_of_a_config(tmp_path, tiny_config, monkeypatch):
    config = tiny_config(max_epochs=np.int64(1), learning_rate=jnp.float32(0.5))
    config["data"]["batch_size"] = np.array(40)
    config["data"]["path"] = np.str_("")
    config["ensemble"]["students"]["mlp"] = ml_collections.ConfigDict(
        {
            "name": "mlp",
            "hidden_units": (np.int32(3), jnp.asarray(2)),
            "dropout": np.float64(0.25),
            "batch_norm": np.bool_(True),
        }
    )
    made = loop.train(config, tmp_path / "run")["config"]
    expected = {"name": "mlp", "hidden_units": (3, 2), "dropout": 0.25, "batch_norm": True}
    assert made["ensemble"]["students"]["mlp"] == expected
    assert (made["train"]["learning_rate"], made["data"]["path"]) == (0.5, "")
    for name in ("config.json", "result.json"):
        written = json.loads((tmp_path / "run" / name).read_text(encoding="utf-8"))
        assert written.get("config", written) == json.loads(json.dumps(made))


def test_a_split_without_an_auc_cannot_be_evaluated(tmp_path, tiny_config, monkeypatch):
    """As a training split of clicks alone, which is no error in training."""
    rows = {"train": 8, "valid": 4, "test": 4}
    schema = Schema("clicks", make_fields([("a", 4, 1), ("b", 5, 2)]), rows, {})
    splits = {}
    for name, count in rows.items():
        labels = np.ones(count) if name == "train" else np.arange(count) % 2
        splits[name] = np.tile(np.array([1, 5, 0], np.int32), (count, 1)), labels.astype(np.float32)
    encoded.write(tmp_path / "data", schema, splits, None)
    config = tiny_config()
    config["data"]["path"] = str(tmp_path / "data")
    model = build.make_model(Config.from_dict(config), schema, jax.random.key(0))
    monkeypatch.setattr(
        loop.Result, "read", lambda workdir: types.SimpleNamespace(config=Config.from_dict(config))
    )
    monkeypatch.setattr(loop, "check_data", lambda *_: None)
    monkeypatch.setattr(teachers, "load", lambda *_: model)
    assert 0 <= loop.evaluate(tmp_path, "test")["ensemble"]["auc"] <= 1
    with pytest.raises(InputError, match=r"data/train: all labels are 1, so AUC is undefined"):
        loop.evaluate(tmp_path, "train")


cycle: dict = {}
cycle["again"] = cycle


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(2), r"config\.x is of type numpy\.ndarray; a config holds numbers, text"),
        (jnp.zeros(2), r"config\.x is of type .*Array.*; a config holds numbers"),
        (1j, r"config\.x is of type builtins\.complex"),
        (np.complex64(1), r"config\.x is of type builtins\.complex"),
        (np.datetime64("2024-01-01"), r"config\.x is of type datetime\.date"),
        (b"x", r"config\.x is of type builtins\.bytes"),
        ({1, 2}, r"config\.x is of type builtins\.set"),
        (print, r"config\.x is of type builtins\.builtin_function_or_method"),
        ((1, [object()]), r"config\.x\[1\]\[0\] is of type builtins\.object"),
        ({1: 2}, r"config\.x has the key 1, which must be text"),
        ({"y": {None: 2}}, r"config\.x\.y has the key None, which must be text"),
        pytest.param(10**5000, r"config\.x is a number of 16610 bits", id="large"),
        (cycle, r"config\.x\.again\.again.*: groups of keys or tuples are nested too deep"),
    ],
)
def test_what_is_no_plain_data_is_named(value, message):
    with pytest.raises(InputError, match=message):
        plain({"x": value})


@pytest.mark.parametrize("config", [{}, {"x": {"y": (1, "a", [None, True, 0.5])}}, {"": 1, "a.b": 10**300}])
def test_plain_data_stays_as_it_is(config):
    assert plain(config) == config
    assert type(plain(ml_collections.ConfigDict({"x": {"y": 1}}))["x"]) is dict


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/etc/x",
        "a/",
        "a//b",
        ".",
        "..",
        "../x",
        "a/../b",
        "./a",
        "a/.",
        "a" * 256,
        "é" * 128,
        "a\nb",
        "\0",
    ],
)
def test_a_run_whose_name_is_no_directory_below_the_sweeps_is_refused(tiny_config, name):
    with pytest.raises(
        InputError, match=r"config\.runs has a run .*whose name cannot be that of its directory"
    ):
        sweep.read({name: tiny_config()})


def test_a_run_in_the_directory_of_another_is_refused(tiny_config):
    with pytest.raises(InputError, match="directory of run 'a/checkpoints/b' lies in that of 'a'; rename"):
        sweep.read({"a/checkpoints/b": {}, "c": {}, "a": {}})


@pytest.mark.parametrize("name", ["v1.0", "a.b/c", ".a", "a b", "é", "%s", "[x]", "*", "a:b", "--x", "..."])
def test_a_run_may_have_any_name_of_a_directory(tmp_path, tiny_config, name):
    runs = sweep.read({name: tiny_config(), "b": tiny_config()})
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "result.json").write_text('{"wall_seconds": 1}', encoding="utf-8")
    assert [run.state for run in sweep.plan(runs, tmp_path)] == ["done", "to do"]


@pytest.mark.parametrize("runs", [None, [], {}, "a", 3, ["a"], {"a": None}, {"a": 3}, {"a": []}, {1: {}}])
def test_what_is_no_sweep_is_refused(runs):
    with pytest.raises(InputError, match="run"):
        sweep.read(runs)


# Students


class Fails(nnx.Module):
    def __init__(self, num_fields, embedding_dim, *, width=1, rngs):
        1 // (width - 1)


class OfAnotherShape(nnx.Module):
    def __init__(self, num_fields, embedding_dim, *, rngs):
        pass

    def __call__(self, embeddings, *, train=False, key=None):
        return embeddings


class Raises(OfAnotherShape):
    def __call__(self, embeddings, *, train=False, key=None):
        raise KeyError("x")


HERE = "bad_students"
STUDENTS = {
    "..a:MLP": "the 'package' argument is required to perform a relative import for '..a'",
    ".:MLP": "relative import",
    "os:path": "is not an nnx.Module",
    "os:nothing": "AttributeError: module 'os' has no attribute 'nothing'",
    ":": "Empty module name",
    ":MLP": "Empty module name",
    "a:": "ModuleNotFoundError: No module named 'a'",
    "os:": "AttributeError: module 'os' has no attribute ''",
    "no such:MLP": "ModuleNotFoundError",
    "a:b:c": "ModuleNotFoundError",
    "é:日本": "ModuleNotFoundError",
    "\0:x": "",
    f"{HERE}_syntax:MLP": "SyntaxError",
    f"{HERE}_exit:MLP": "SystemExit: 3",
    f"{HERE}:Fails": "config.ensemble.students.a: ZeroDivisionError: ",
    f"{HERE}:Raises": "config.ensemble.students.a: KeyError: 'x'",
    f"{HERE}:OfAnotherShape": "config.ensemble.students.a: it must map embeddings [B, F, D] to logits [B]",
    "flax.nnx:Module": "config.ensemble.students.a: ",
    "flax.nnx:Linear": "config.ensemble.students.a: ",
    "mpl": "did you mean 'mlp'?",
    "": "is unknown",
    "a" * 3000: "is unknown",
}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    (tmp_path / f"{HERE}_syntax.py").write_text("def f(:", encoding="utf-8")
    (tmp_path / f"{HERE}_exit.py").write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, HERE, sys.modules[__name__])


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_that_is_none_is_named(tiny_config, modules, name):
    config = tiny_config()
    config["ensemble"]["students"] = {"a": {"name": name}}
    with pytest.raises(InputError) as caught:
        build.make_students(Config.from_dict(config))
    assert STUDENTS[name] in str(caught.value)
    assert str(caught.value).startswith("config.ensemble.students.a")


@pytest.mark.parametrize("name", [3, None, ["mlp"], {"a": 1}, ("mlp",), True, 1.5])
def test_a_student_s_name_must_be_text(tiny_config, name):
    config = tiny_config()
    config["ensemble"]["students"] = {"a": {"name": name}}
    with pytest.raises(InputError, match=r"config\.ensemble\.students\.a\.name = .* must be text"):
        build.make_students(Config.from_dict(config))


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("mlp", "hidden_units", "abc"),
        ("mlp", "hidden_units", 3),
        ("mlp", "hidden_units", (10**20,)),
        ("mlp", "hidden_units", (1.5,)),
        ("mlp", "hidden_units", (True,)),
        ("mlp", "hidden_units", (1,) * 1001),
        ("mlp", "hidden_units", None),
        ("mlp", "dropout", "0.1"),
        ("mlp", "dropout", float("nan")),
        ("mlp", "dropout", True),
        ("mlp", "batch_norm", "no"),
        ("mlp", "batch_norm", None),
        ("dcn", "num_cross_layers", 10**9),
        ("dcn", "num_cross_layers", 2.0),
        ("dcn", "num_cross_layers", 10**20),
        ("cl4ctr", "alpha", float("inf")),
        ("cl4ctr", "alpha", 1e60),
        ("cl4ctr", "base", 3),
        ("cl4ctr", "encoder_units", 0),
        ("autoint", "attention_dim", 0),
        ("autoint", "attention_dim", 2**31 - 2),
        ("masknet", "reduction_ratio", 1e30),
        ("masknet", "num_blocks", 5000),
        ("finalmlp", "gate_hidden_units", ()),
        ("dagfm", "interaction", ["outer"]),
        ("dagfm", "depth", 100_000),
    ],
)
def test_an_argument_that_no_student_takes_is_named(tiny_config, name, option, value):
    config = tiny_config()
    config["ensemble"]["students"] = {"a": {"name": name, option: value}}
    if option == "num_blocks":
        config["ensemble"]["students"]["a"]["variant"] = "parallel"
    with pytest.raises(InputError, match=r"config\.ensemble\.students\.a"):
        build.make_students(Config.from_dict(config))


LIMITS = {
    "data.batch_size": 10**20,
    "embedding.dim": 10**20,
    "embedding.l2": 1e39,
    "ensemble.num_students": 10**20,
    "train.max_epochs": 10**20,
    "train.learning_rate": 1e-50,
    "train.clip_norm": 1e-50,
}


@pytest.mark.parametrize("key", LIMITS)
def test_a_number_that_no_run_can_have_is_named(tiny_config, key):
    config = tiny_config()
    group, name = key.split(".")
    config[group][name] = LIMITS[key]
    with pytest.raises(InputError, match=rf"config\.{re.escape(key)} = .* must be "):
        build.check(Config.from_dict(config))


@pytest.mark.parametrize(
    "settings",
    [
        {"rows": 10**20},
        {"values": (10**20, 3, 4)},
        {"values": (2**31 - 10, 3, 4)},
        {"max_lens": (10**6, 1, 1)},
        {"hidden_dim": 10**9},
        {"zipf": 1e308},
        {"first_order": 1e308},
        {"click_rate": 1e-300},
        {"zipf": float("nan")},
        {"seed": -1},
        {"values": "abc"},
        {"values": None},
        {"rows": None},
    ],
)
def test_synthetic_data_that_cannot_be_made_are_named(tiny_config, settings):
    config = tiny_config()
    config["data"]["synthetic"] |= settings
    with pytest.raises(InputError, match="synthetic"):
        build.make_synthetic_spec(Config.from_dict(config))


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize backend 'x'")])
def test_devices_that_are_not_there_are_named(tiny_config, monkeypatch, error):
    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "x")
    with pytest.raises(
        InputError, match=r"^JAX_PLATFORMS = 'x': JAX has no such device here .*; correct it or"
    ):
        build.make_students(Config.from_dict(tiny_config()))
