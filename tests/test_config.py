"""The typed config: what it reads, what it refuses, and that old configs mean what they meant."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ektf_jax import keys
from ektf_jax.config import Config, current_names
from ektf_jax.errors import InputError
from ektf_jax.keys import deciding, key, leaves
from ektf_jax.training.identity import identity

ROOT = Path(__file__).resolve().parents[1]
COMMITTED = sorted((ROOT / "results").rglob("result.json"))


def keys_of(cls, path=""):
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(field.default):
            yield from keys_of(type(field.default), f"{path}{field.name}.")
        else:
            yield f"{path}{field.name}", field


def test_every_key_has_a_meaning_and_a_default_that_it_can_have():
    for name, field in keys_of(Config):
        assert field.metadata["meaning"].endswith("."), name
    assert Config.from_dict(Config().to_dict()) == Config() == Config.from_dict({})


def test_committed_results_say_what_they_said():
    """Five sets of keys are among them; whatever a config names stays, and identifies its run."""
    told = [json.loads(path.read_text())["config"] for path in COMMITTED]
    key_sets = {
        tuple(name for name, _ in leaves({**one, "ensemble": {**one["ensemble"], "students": 0}}))
        for one in told
    }
    assert len(key_sets) >= 5
    for one in told:
        read = Config.from_dict(one)
        named_now = {".".join(current_names(name.split("."))): value for name, value in leaves(one)}
        assert named_now.items() <= dict(leaves(read.to_dict())).items()
        assert identity(Config.from_dict(read.to_dict())) == identity(read)


def test_a_key_that_came_since_refuses_no_run():
    """Each key left out, as before there was it: the same run as with its default."""
    whole = Config().to_dict()
    for name, _ in keys_of(Config):
        *groups, last = name.split(".")
        old = json.loads(json.dumps(whole))
        place = old
        for group in groups:
            place = place[group]
        place.pop(last, None)
        assert identity(Config.from_dict(old)) == identity(Config()), name


def test_a_former_name_is_read():
    old = {"ensemble": {"products": "bfloat16"}}
    assert Config.from_dict(old) == Config.from_dict({"ensemble": {"matmul_dtype": "bfloat16"}})
    for both in (
        {**old["ensemble"], "matmul_dtype": "float32"},
        {"matmul_dtype": "float32", **old["ensemble"]},
    ):
        with pytest.raises(InputError, match=r"former name of config\.ensemble\.matmul_dtype.*drop one"):
            Config.from_dict({"ensemble": both})
    assert current_names(("ensemble", "products")) == ("ensemble", "matmul_dtype")
    assert current_names(("ensemble", "students", "products")) == ("ensemble", "students", "products")


def test_what_a_key_decides_is_its_own():
    assert dict(deciding(Config(), ["run"])) == {"seed": 2024}
    assert {name for name, _ in deciding(Config(), ["nothing"])} == {
        "data.path",
        "data.residence",
        "ensemble.stack",
        "train.log_every",
        "train.checkpoint_every",
        "mesh.data",
        "mesh.student",
        "mesh.table",
    }
    assert "seed" not in identity(Config(), decides=["recipe"])


@dataclasses.dataclass(frozen=True)
class Own:
    """A group as somebody else's method has it."""

    weight: float = 1.0
    layers: tuple[int, ...] = (1,)
    on: bool = False
    kind: str = key("a", "One of two.", ("a", "b"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weigth": 1.0}, "config key 'own.weigth' is unknown; did you mean 'own.weight'"),
        ({"weight": "1"}, "own.weight = '1' must be of type float, like 1.0"),
        ({"weight": float("nan")}, "own.weight = nan must be finite"),
        ({"weight": 10**400}, "must be finite"),
        ({"on": 1}, "own.on = 1 must be of type bool"),
        ({"kind": "c"}, "own.kind 'c' is unknown"),
        ({"layers": {"a": 1}}, "must be a value"),
        (3, "own = 3 must be a group of keys"),
    ],
)
def test_a_group_of_keys_is_read_or_what_is_wrong_is_named(given, said):
    with pytest.raises(InputError) as caught:
        keys.read(Own, given, "own")
    assert said in str(caught.value)


def test_values_become_those_of_their_types():
    read = keys.read(Own, {"weight": 2, "layers": [3, 4]}, "own")
    assert (read.weight, type(read.weight), read.layers) == (2.0, float, (3, 4))
    assert Config.from_dict({"embedding": {"sharing": 1}}).embedding.own_columns == 16


def test_a_config_is_read_without_jax():
    code = "import sys; from ektf_jax.config import Config; Config.from_dict({}); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
