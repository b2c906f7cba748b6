"""What makes two runs the same run."""

import copy
import json
import math

import numpy as np
import pytest

from configs import base
from ektf_jax.config import Config
from ektf_jax.errors import InputError
from ektf_jax.keys import differences, leaves
from ektf_jax.training.identity import identity as identity_of

CONFIG = base.get_config().to_dict()

# By hand: a config's keys that do not say what is trained, ...
NOT_THE_RUN = {
    "data.residence",
    "data.path",
    "ensemble.stack",
    "mesh.data",
    "mesh.student",
    "mesh.table",
    "train.log_every",
    "train.checkpoint_every",
}


def identity(config, **options):
    return identity_of(Config.from_dict(config), **options)


def keys(config, path=()):
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from keys(value, (*path, key))
        elif not isinstance(value, dict):
            yield (*path, key), value


def changed(path, value):
    config = copy.deepcopy(CONFIG)
    group = config
    for key in path[:-1]:
        group = group[key]
    group[path[-1]] = value
    return config


# Where the general way leads to a value that the key cannot have.
OTHERS = {
    "embedding.sharing": "own",
    "ensemble.fusion": "sum",
    "data.residence": "device",
    "ensemble.stack": "vmap",
    "ensemble.matmul_dtype": "bfloat16",
    "ensemble.members": "adapters",
    "train.ema": 0.5,
    "transfer.teachers": ("x",),
    "train.init_from": ("x",),
    "train.learning_rate_decay": 0.2,
}


def other(path, value):
    if (key := ".".join(path)) in OTHERS:
        return OTHERS[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return f"{value}x" if isinstance(value, str) else (*value, 7)


@pytest.mark.parametrize(("path", "value"), list(keys(CONFIG)), ids=lambda part: str(part))
def test_every_key_counts_but_those_that_do_not_and_options_of_methods_that_are_not_used(path, value):
    found = differences(identity(CONFIG), identity(changed(path, other(path, value))))
    key = ".".join(path)
    unused = path[0] == "transfer" and len(path) > 2 and path[1] != "ektf"
    if key in NOT_THE_RUN or unused:
        assert found == []
    elif key == "transfer.name":  # another method reads other options
        assert any("transfer.name: 'ektf' there, 'ektfx' now" in line for line in found)
    else:
        ours, theirs = (json.loads(json.dumps(v)) for v in (value, other(path, value)))
        plain = [int(v) if isinstance(v, float) and v == int(v) else v for v in (ours, theirs)]
        assert found == [f"{key}: {plain[0]!r} there, {plain[1]!r} now"]


def test_numbers_and_sequences_are_what_json_makes_of_them():
    one = {"a": 1.0, "b": (1, 2.0), "c": {"d": [True]}}
    ours, theirs, others = map(
        dict, map(leaves, (one, json.loads(json.dumps(one)), {**one, "a": 1, "b": [1.0, 2]}))
    )
    assert ours == theirs == others == {"a": 1, "b": [1, 2], "c.d": [True]}


def test_a_key_that_one_lacks_is_absent_there():
    assert differences({"a": 1, "b": None}, {"b": 2, "c": 0}) == [
        "a: 1 there, absent now",
        "b: None there, 2 now",
        "c: absent there, 0 now",
    ]


def test_configs_from_before_a_key_was_are_those_with_its_value_of_then():
    old = copy.deepcopy(CONFIG)
    del old["ensemble"]["matmul_dtype"], old["mesh"], old["transfer"]["teachers"], old["transfer"]["dagfm"]
    assert identity(old) == identity(CONFIG)
    assert identity(old) != identity(changed(("ensemble", "matmul_dtype"), "bfloat16"))


def test_another_order_of_students_is_another_run():
    """Theirs is the order of the groups: of equal shapes the weights would change places."""
    students = {"a": {"name": "mlp", "dropout": 0.1}, "b": {"name": "mlp", "dropout": 0.5}}
    one = changed(("ensemble", "students"), students)
    two = changed(("ensemble", "students"), dict(reversed(students.items())))
    assert differences(identity(one), identity(two)) == ["ensemble.students: absent there, ['b', 'a'] now"]


@pytest.mark.parametrize("value", [math.nan, math.inf, (0.5, -math.inf), {1}, np.float32(1), print])
def test_values_without_a_text_in_json_are_named(value):
    with pytest.raises(InputError, match=r"config\.students\.mlp\.dropout = .* has no text in JSON"):
        dict(leaves({"students": {"mlp": {"dropout": value}}}))
