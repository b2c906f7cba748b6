"""Random overrides of all configs, through the command line of `train`: overrides.py EXAMPLES SEED.

Each gives a run's config, or one line on stderr and exit status 2, and then nothing is left behind. Training
itself is left out. A process of its own, as flags are global.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from absl import flags
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

from configs import published
from ektf_jax.cli import config, shell, train
from ektf_jax.data import encoded
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.training import loop

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    "configs/quickstart.py",
    "configs/base.py",
    "configs/ml1m_ektf_mlp.py",
    "configs/ml1m_ektf_latest.py",
    *(
        f"configs/{kind}.py:{dataset}"
        for kind in ("ektf_mlp", "ektf_latest")
        for dataset in published.DATASETS
    ),
    *(f"configs/{table}.py:ml1m,{model}" for table in ("table2", "table4") for model in published.MODELS),
    *(f"configs/table2.py:{dataset},mlp" for dataset in published.DATASETS),
)
NUMBERS = [
    "0",
    "1",
    "2",
    "7",
    "64",
    "-1",
    "-0",
    "-0.0",
    "1e400",
    "-1e400",
    "nan",
    "inf",
    "1e-400",
    "1e39",
    "5e-324",
]
NUMBERS += [
    str(10**20),
    str(2**31),
    str(2**31 - 1),
    str(2**32),
    str(2**63),
    str(2**64),
    "9" * 400,
    "9" * 5000,
]
NUMBERS += [
    "0.5",
    "1.0",
    "1e3",
    "0x10",
    "1_000",
    "1.",
    "٣",
    "½",
    "1 ",
    " 1",
    "+1",
    "1j",
    "1e",
    "0b1",
    "00",
    "--1",
]
TEXTS = [
    "",
    " ",
    "\t",
    "\n",
    "a\nb",
    "'",
    '"',
    "é",
    "日本",
    "\U0001f600",
    "\udcff",
    "a" * 5000,
    "%s",
    "{}",
    "\\",
    "$x$",
]
TEXTS += [
    "True",
    "true",
    "no",
    "None",
    "null",
    "name",
    "mean",
    "sum",
    "concat",
    "vmap",
    "scan",
    "bfloat16",
    "kl",
    "mse",
]
TEXTS += [
    "ektf",
    "kd",
    "dml",
    "none",
    "eckd",
    "dagfm",
    "kdcl",
    "mlp",
    "dcn",
    "cin",
    "nothing",
    "..",
    "/",
    "../x",
    "~",
]
TEXTS += [
    "..a:MLP",
    "os:path",
    ":",
    "a:",
    ":b",
    "a:b:c",
    "os:nothing",
    "builtins:type",
    "flax.nnx:Module",
    "flax.nnx:Linear",
]
LITERALS = [
    "()",
    "(1,)",
    "(0,)",
    "(-1,)",
    "(1, 'a')",
    "[1, 2]",
    "[]",
    "{}",
    "{1: 2}",
    "{'a': 1}",
    "{1, 2}",
    "((1,), 2)",
]
LITERALS += [
    "(1",
    "1,2",
    "a,b",
    "1, 2",
    "(nan,)",
    "(1e400,)",
    f"({10**20},)",
    "(1.5,)",
    "(True,)",
    "(None,)",
    "b'a'",
    "...",
]
LITERALS += [
    "('a', 'b')",
    "[" * 500,
    "(" * 100 + ")" * 100,
    "-" * 3000 + "1",
    "lambda: 0",
    "f'{1}'",
    "1 if 1 else 2",
]
LITERALS += [
    "{'name': 'mlp'}",
    "{'name': ['mlp']}",
    "{'a': {'name': 'mlp'}}",
    "{'a': {'name': 'dcn', 'x': 1}}",
]
LITERALS += [
    "{'rows': 100, 'values': (3, 4)}",
    "{'rows': 1e9, 'values': 3}",
    "{'a.b': {'name': 'lr'}}",
    "{'': {'name': 'fm'}}",
]
VALUES = st.one_of(
    st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.sampled_from(LITERALS), st.text(max_size=8)
)
TAILS = [
    ".x",
    ".",
    "..",
    "[0]",
    "['x']",
    '["a.b"]',
    "[",
    "]",
    "[x]",
    ".upper",
    ".__class__",
    ".__dict__",
    ".update",
    ".items",
]
TAILS += [
    ".lock",
    ".to_dict",
    "._fields",
    ".0",
    ". ",
    ".é",
    "[:]",
    "[()]",
    "()",
    "+1",
    "s",
    ".name",
    ".a.b.c",
    "=",
    "\n",
]


def paths(group, prefix=""):
    """Every key of a config, and every group."""
    for key, value in group.items():
        yield prefix + key, value
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{key}.")


KEYS = {file: list(paths(config.load(str(ROOT / file)))) for file in FILES}


def likely(value):
    """Values that a key may well have."""
    if isinstance(value, bool):
        return st.sampled_from(["True", "false", "1"])
    if isinstance(value, int):
        return st.integers(0, 50).map(str)
    if isinstance(value, float):
        return st.floats(0, 2).map(str)
    if isinstance(value, tuple) and value:
        return st.lists(st.integers(1, 9), min_size=1, max_size=3).map(lambda widths: str(tuple(widths)))
    return st.just(str(value))


@st.composite
def commands(draw):
    """A config file and one to three overrides."""
    file = draw(st.sampled_from(FILES))
    overrides = []
    for _ in range(draw(st.integers(1, 3))):
        key, value = draw(st.sampled_from(KEYS[file]))
        spoilt = draw(st.integers(0, 19))
        if spoilt == 0:
            key += draw(st.sampled_from(TAILS))
        elif spoilt == 1:
            key = draw(
                st.one_of(
                    st.text(max_size=6), st.sampled_from([".", "", "=", "runs", "seed seed", "a" * 3000])
                )
            )
        prefix = draw(st.sampled_from(["--config."] * 30 + ["-config.", "--noconfig.", "--config"]))
        text = draw(likely(value) if spoilt > 4 else VALUES)
        overrides.append(f"{prefix}{key}={text}" if spoilt != 2 else f"{prefix}{key}")
    return file, overrides


def dataset(directory):
    rows = {"train": 40, "valid": 4, "test": 4}
    schema = Schema("tiny", make_fields([("a", 4, 1), ("b", 5, 2)]), rows, {})
    splits = {
        name: (np.zeros((count, 3), np.int32), np.arange(count, dtype=np.float32) % 2)
        for name, count in rows.items()
    }
    encoded.write(directory, schema, splits, None)
    return directory


NAMED = [
    ["--config.data.path.x=1"],
    ["--config.=1"],
    ["--config.ensemble.students.mlp.name=..a:MLP"],
    ["--config.train.max_epochs=100000000000000000000"],
    ["--config.ensemble.num_students=100000000000000000000"],
    ["--config.ensemble.students.mlp.hidden_units=(100000000000000000000,)"],
    ["--config.ensemble.students={'a.b': {'name': 'mlp'}, 'é|$': {'name': 'lr'}}"],
    ["--config.seed=1", "--config.seed=2"],
    ["--config.data.synthetic.rows=1000000000000"],
    ["--config.train.learning_rate=1e-60"],
    ["--config.embedding.l2=1e60"],
    ["--config.mesh.data=100000000000000000000"],
]


def named(check):
    for overrides in NAMED:
        check = example(("configs/quickstart.py", overrides))(check)
    return check


class Generates(Exception):
    """All is checked, and a run would generate its data now, which can take long."""


def main():
    examples, seed_ = int(sys.argv[1]), int(sys.argv[2])
    root = Path(tempfile.mkdtemp())
    data = dataset(root / "data")
    metrics = {"auc": 0.5, "logloss": 0.5}
    trained = []

    def run(config, listeners):
        trained.append(config)
        json.dumps(config.to_dict(), allow_nan=False)
        return {"config": config.to_dict(), "test": {"ensemble": metrics, "students": []}}

    vars(loop).update(run=run, Training=lambda config, *_: config)

    def generate(config, workdir):
        trained.append(config)
        json.dumps(config.to_dict(), allow_nan=False)
        raise Generates

    loop.dataset = generate
    (root / "here").mkdir()
    os.chdir(root / "here")
    outcomes = {"run": 0, "refused": 0}

    @seed(seed_)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @named
    @given(commands())
    def check(command):
        file, overrides = command
        workdir = root / "run"
        sys.argv = ["train", f"--config={ROOT / file}", f"--workdir={workdir}", *overrides]
        if not any(".data" in part for part in overrides):
            sys.argv += [f"--config.data.path={data}", "--config.data.batch_size=8"]
        flags.FLAGS.unparse_flags()
        trained.clear()
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                shell.run(train.main)
            except SystemExit as exit_:
                status = exit_.code
            except Generates:
                status = None
        said = errors.getvalue()
        if status is None or status == 0:
            assert len(trained) == 1, said
            outcomes["run"] += 1
            shutil.rmtree(workdir)
        else:
            assert status == 2, (status, said)
            assert said.startswith("error: "), said
            assert said.count("\n") == 1, said
            assert len(said) < 2100
            outcomes["refused"] += 1
        assert sorted(path.name for path in root.iterdir()) == ["data", "here"]
        assert list(Path().iterdir()) == []

    check()
    print(json.dumps(outcomes))
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
