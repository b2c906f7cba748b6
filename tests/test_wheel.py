"""What an installed wheel can do, with no clone beside it and no package but those that it asks for."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from os import environ
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.slow

ENVIRONMENT = {key: value for key, value in environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
QUICK = [
    "--config.data.synthetic.rows=2000",
    "--config.data.batch_size=256",
    "--config.ensemble.num_students=2",
    "--config.ensemble.students.mlp.hidden_units=(8,)",
    "--config.train.max_epochs=1",
]


def call(*command, cwd):
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Made of a copy: setuptools leaves files beside what it builds, and takes up what it left before."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("ektf_jax", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = call(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", out, copy, cwd=out)
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.whl")
    return made


def requirements(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist")


def closure(wheel, *extras):
    """The names of the distributions that the wheel asks for, and that these ask for, and so on."""
    ours = requirements(wheel)
    seen, left = set(), [("ektf-jax", extra) for extra in ("", *extras)]
    while left:
        name, extra = left.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in ours if name == "ektf-jax" else importlib.metadata.requires(name) or ():
            asked = Requirement(text)
            if asked.marker is None or asked.marker.evaluate({"extra": extra}):
                left += [(canonicalize_name(asked.name), more) for more in ("", *asked.extras)]
    return {name for name, _ in seen} - {"ektf-jax"}


def install(wheel, folder, *extras):
    """An environment of its own with the wheel and its requirements, which are links to those of this one."""
    made = call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    assert made.returncode == 0, made.stderr
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in closure(wheel, *extras):
        distribution = importlib.metadata.distribution(name)
        for part in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (packages / part).exists():
                (packages / part).symlink_to(distribution.locate_file(part))
    python = folder / "bin" / "python"
    done = call(
        sys.executable, "-m", "pip", f"--python={python}", "install", "--no-deps", wheel, cwd=folder.parent
    )
    assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="module")
def base(wheel, tmp_path_factory):
    return install(wheel, tmp_path_factory.mktemp("base") / "venv")


@pytest.fixture(scope="module")
def train(wheel, tmp_path_factory):
    return install(wheel, tmp_path_factory.mktemp("train") / "venv", "train")


def test_the_wheel_alone_asks_for_what_the_losses_need(wheel):
    asked = closure(wheel)
    assert {"jax", "jaxlib", "optax", "numpy"} < asked
    assert len(asked) < 12
    others = {"flax", "orbax-checkpoint", "grain", "polars", "matplotlib", "ml-collections", "safetensors"}
    assert not asked & others
    assert others < closure(wheel, "train")
    assert 'ektf-jax[train,tune]; extra == "dev"' in requirements(wheel)


def test_the_wheel_holds_what_the_package_reads(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    for folder, into in (("ektf_jax", ""), ("configs", "ektf_jax/")):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
        assert not {f"{into}{path.relative_to(ROOT)}" for path in files} - held


# Networks of one's own, in plain JAX: two linear models that learn which of two columns counts.
LOOP = """
import jax, jax.numpy as jnp, optax
from ektf_jax import losses

x = jax.random.normal(jax.random.key(0), (512, 2))
labels = (x[:, 0] > 0).astype("float32")
networks = [{"w": jnp.zeros(2), "b": jnp.float32(0)}, {"w": jnp.ones(2), "b": jnp.float32(1)}]
optimizer = optax.adam(0.05)
state = optimizer.init(networks)

def loss_of(networks):
    logits = jnp.stack([x @ network["w"] + network["b"] for network in networks])
    loss, terms = losses.ektf_loss(logits, labels)
    return loss, terms.ctr

@jax.jit
def step(networks, state):
    (loss, ctr), gradient = jax.value_and_grad(loss_of, has_aux=True)(networks)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(networks, updates), state, ctr

for _ in range(200):
    networks, state, ctr = step(networks, state)
print(float(ctr))
"""

PUBLIC = """
import ektf_jax
for name in ektf_jax.__all__:
    try:
        getattr(ektf_jax, name)
        print(name)
    except ImportError as error:
        print(error)
"""


def test_the_base_trains_networks_of_ones_own(base, tmp_path):
    done = call(base, "-c", LOOP, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) < 0.6  # two chance losses are 1.39


def test_names_and_commands_say_which_extra_they_need(base, tmp_path):
    found = call(base, "-c", PUBLIC, cwd=tmp_path).stdout.splitlines()
    assert found == [
        "Config",
        "ektf_jax.Ensemble needs flax, which is not installed: pip install 'ektf-jax[train]'",
        "ektf_jax.load_bundle needs polars, which is not installed: pip install 'ektf-jax[bundle]'",
        found[3],
        "losses",
        "metrics",
        "ektf_jax.students needs flax, which is not installed: pip install 'ektf-jax[train]'",
        "ektf_jax.transfer needs flax, which is not installed: pip install 'ektf-jax[train]'",
    ]
    assert re.fullmatch(
        r"ektf_jax\.load_run needs \w+, which is not installed: pip install 'ektf-jax\[train\]'", found[3]
    )
    listed = call(base.with_name("ektf"), cwd=tmp_path)
    assert (listed.returncode, listed.stderr) == (0, "")
    for command, extra in (("train", "train"), ("score", "bundle"), ("tune", "tune")):
        done = call(base.with_name("ektf"), command, "--help", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(
            rf"error: `ektf {command}` needs \w+, which is not installed: pip install 'ektf-jax\[{extra}]'\n",
            done.stderr,
        )


def test_a_bundle_needs_little(wheel, tmp_path):
    python = install(wheel, tmp_path / "venv", "bundle")
    help_ = call(python.with_name("ektf"), "score", "--help", cwd=tmp_path)
    assert (help_.returncode, help_.stderr) == (0, "")
    assert "`ektf score --bundle=BUNDLE" in help_.stdout
    code = "import sys, ektf_jax; ektf_jax.load_bundle(sys.argv[1])"
    loaded = call(python, "-c", code, tmp_path, cwd=tmp_path)
    assert "InputError" in loaded.stderr
    assert "make one with `ektf export`" in loaded.stderr


def test_readme_s_scale_k_runs(train, tmp_path):
    (block,) = (code for code in re.findall(r"```python\n(.*?)```", README, re.S) if "Ensemble(" in code)
    done = call(train, "-c", block, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "(64, 256) (256,)\n"), done.stderr


def test_ektf_trains_from_another_directory(train, tmp_path):
    ektf = train.with_name("ektf")
    done = call(ektf, "train", "--config=configs/quickstart.py", "--workdir=run", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test ensemble  AUC 0." in done.stdout
    assert (tmp_path / "run" / "result.json").is_file()
    missing = call(ektf, "evaluate", "--workdir=elsewhere", cwd=tmp_path)
    assert missing.returncode == 2
    assert "train with `ektf train --workdir=elsewhere` first" in missing.stderr


MINE = """
from configs import quickstart
from mystudents import WIDTH


def get_config():
    config = quickstart.get_config()
    config.ensemble.students.mlp.hidden_units = (WIDTH,)
    return {"runs": {"a": config.to_dict()}}
"""


def test_a_sweep_over_a_config_of_ones_own(train, tmp_path):
    """It starts a process for each run, in which the same modules are there."""
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "mystudents.py").write_text("WIDTH = 8\n", encoding="utf-8")
    quick = [option.replace("--config.", "--config.runs.a.") for option in QUICK if "hidden" not in option]
    done = call(train.with_name("ektf"), "sweep", "--config=mine.py", "--workdir=out", *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 done" in done.stdout
    result = json.loads((tmp_path / "out/a/result.json").read_text(encoding="utf-8"))
    assert result["config"]["ensemble"]["students"]["mlp"]["hidden_units"] == [8]
