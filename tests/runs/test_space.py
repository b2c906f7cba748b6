"""Spaces: what a file may say, what a config makes of it, and the spaces that come with the package."""

import inspect

import pytest

from configs import base, published
from ektf_jax.config import Config
from ektf_jax.document import read_yaml
from ektf_jax.errors import InputError
from ektf_jax.runs import space
from ektf_jax.students import REGISTRY
from ektf_jax.training import build
from ektf_jax.training.identity import identity
from ektf_jax.training.record import students_in_full


@pytest.fixture
def config(tiny_config):
    return Config.from_dict(tiny_config())


def read(tmp_path, text, config):
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return space.read(path, config)


def test_axes_are_read_as_their_keys_take_them(tmp_path, config):
    text = """
train.learning_rate: {low: 1e-4, high: 1e-2, log: true}
train.clip_norm: {low: 1, high: 10}
ensemble.num_students: {low: 1, high: 4}
ensemble.students.*.dropout: {low: 0, high: 0.5, step: 0.1}
ensemble.students.mlp.hidden_units: {choices: [[8], [8, 8]]}
transfer.name: {choices: [none, ektf]}
"""
    found = read(tmp_path, text, config)
    rate, clip, count, dropout, units, _ = found.values()
    assert (rate.low, rate.high, rate.log, rate.step) == (1e-4, 1e-2, True, None)
    assert [type(value) for value in (clip.low, clip.high)] == [float, float]  # as the key has it
    assert [type(value) for value in (count.low, count.high)] == [int, int]
    assert (dropout.low, dropout.high, dropout.step) == (0.0, 0.5, 0.1)
    assert units.choices == ([8], [8, 8])
    values = {"ensemble.students.*.dropout": 0.3, "ensemble.students.mlp.hidden_units": [8, 8]}
    varied = space.varied(config, found, values)
    assert varied.ensemble.students["mlp"]["dropout"] == 0.3
    assert varied.ensemble.students["mlp"]["hidden_units"] == (8, 8)
    assert config.ensemble.students["mlp"]["hidden_units"] == (8,)
    assert varied.train == config.train


def test_a_configs_own_settings_are_those_that_the_space_has(tmp_path, tiny_config):
    nested = tiny_config()
    nested["embedding"]["l2"] = 0.004
    nested["ensemble"]["students"]["mlp"]["dropout"] = 0.3
    config = Config.from_dict(nested)
    text = """
embedding.l2: {low: 0, high: 0.01, step: 0.002}
ensemble.num_students: {low: 1, high: 4}
ensemble.students.*.dropout: {low: 0, high: 0.5, step: 0.1}
ensemble.students.mlp.hidden_units: {choices: [[8], [8, 8]]}
ensemble.students.mlp.batch_norm: {choices: [true, false]}
"""
    found = read(tmp_path, text, config)
    own = space.own(config, found)
    assert list(own.values()) == [0.004, 3, 0.3, [8], True]  # batch_norm by its default
    varied = space.varied(config, found, own)
    assert identity(varied, students=students_in_full(varied)) == identity(
        config, students=students_in_full(config)
    )
    for key, value in (("l2", 0.005), ("l2", 0.02)):
        other = Config.from_dict(nested | {"embedding": nested["embedding"] | {key: value}})
        assert space.own(other, found) is None
    nested["ensemble"]["students"]["other"] = nested["ensemble"]["students"]["mlp"] | {"dropout": 0.1}
    assert space.own(Config.from_dict(nested), found) is None  # two values of one axis


def test_a_star_sets_every_student(tmp_path, tiny_config):
    nested = tiny_config()
    nested["ensemble"]["students"]["other"] = {"name": "ecn"}
    config = Config.from_dict(nested)
    found = read(tmp_path, "ensemble.students.*.dropout: {low: 0.0, high: 0.5}", config)
    varied = space.varied(config, found, {"ensemble.students.*.dropout": 0.25})
    assert [student["dropout"] for student in varied.ensemble.students.values()] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no key of the config"),
        ("[1]", "names no key of the config"),
        ("a: [", "is not YAML"),
        ("a: !!python/object:os.system {}", "is not YAML"),
        ("1: {low: 1, high: 2}", "the key 1 must be one of the config"),
        ("train..x: {low: 1, high: 2}", "the key 'train..x' must be one of the config"),
        (
            "train.learning_rat: {low: 1e-3, high: 1}",
            "train.learning_rat = 0.001: config key 'config.train.learning_rat' is unknown; did you mean"
            " 'config.train.learning_rate'",
        ),
        (
            "ensemble.students.mlp.dropuot: {low: 0.1, high: 0.2}",
            "'config.ensemble.students.mlp.dropuot' is unknown; did you mean"
            " 'config.ensemble.students.mlp.dropout'",
        ),
        ("train.patience.x: {low: 1, high: 2}", "config.train.patience is no group of keys"),
        ("seed.*: {low: 1, high: 2}", "seed is no group of keys that"),
        ("train.patience: 3", "train.patience = 3 must be {low, high}"),
        ("train.patience: {low: 1, hihg: 2}", "train.patience: key 'hihg' is unknown; did you mean 'high'?"),
        ("train.patience: {low: 1}", "train.patience: lacks high"),
        ("train.patience: {low: a, high: 2}", "train.patience: low = 'a' must be a finite number"),
        ("train.patience: {low: .nan, high: 2}", "low = nan must be a finite number"),
        ("train.patience: {low: true, high: 2}", "low = True must be a finite number"),
        ("train.patience: {low: 2, high: 2}", "low = 2 must be below high = 2"),
        (
            "train.patience: {low: 0, high: 2}",
            "train.patience = 0: config.train.patience = 0 must be at least 1",
        ),
        ("train.patience: {low: 1, high: 1.5}", "config.train.patience = 1.5 must be of type int"),
        ("embedding.l2: {low: 0, high: 1, log: true}", "low = 0 must be above 0 on a logarithmic scale"),
        ("embedding.l2: {low: 1, high: 2, log: 1}", "log = 1 must be true or false"),
        ("embedding.l2: {low: 1, high: 2, log: true, step: 1}", "has log and a step = 1"),
        ("embedding.l2: {low: 0, high: 1, step: 0.3}", "step = 0.3 must lead from low = 0 to high = 1"),
        ("embedding.l2: {low: 0, high: 1, step: 0}", "step = 0 must lead from"),
        ("embedding.l2: {low: 0, high: 1, choices: [1, 2]}", "has choices and low"),
        ("transfer.name: {choices: ektf}", "choices = 'ektf' must be a list of two values or more"),
        ("transfer.name: {choices: [ektf]}", "must be a list of two values or more"),
        ("transfer.name: {choices: [ektf, ektf]}", "choices has 'ektf' twice"),
        ("transfer.name: {choices: [ektf, {a: 1}]}", "choices has {'a': 1}; a choice is text"),
        ("transfer.name: {choices: [ektf, dmll]}", "transfer.name = 'dmll': "),
        ("train.patience: {low: 1, high: 2}\ntrain.patience: {low: 1, high: 3}", "is on line 1 already"),
        (
            "ensemble.students.*.dropout: {low: 0.1, high: 0.2}\n"
            "ensemble.students.mlp.dropout: {low: 0.1, high: 0.2}",
            "both set ensemble.students.mlp.dropout; drop one",
        ),
        ("seed: {low: 1, high: 5}", "are the same recipe for this config; drop it"),
        ("train.log_every: {low: 1, high: 5}", "are the same recipe for this config; drop it"),
        ("transfer.dml.stop_gradient: {choices: [true, false]}", "are the same recipe for this config"),
    ],
)
def test_what_is_wrong_is_named_with_file_key_and_value(tmp_path, config, text, said):
    with pytest.raises(InputError) as error:
        read(tmp_path, text, config)
    assert str(error.value).startswith(f"{tmp_path / 'space.yaml'}:")
    assert said in str(error.value)


def test_a_space_that_is_not_there(tmp_path, config):
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read .*; check --space"):
        space.read(tmp_path / "none.yaml", config)


def settings(name):
    """Published settings of a student on ML-1M, or else its defaults."""
    models = {model["name"]: key for key, model in reversed(published.MODELS.items())}
    return published.settings(models[name], "ml1m", alone=False)[0] if name in models else {"name": name}


def walk(student):
    """Try every value of a student's space: `default` tries ends and choices, this what lies between."""
    nested = base.get_config().to_dict()
    nested["ensemble"]["students"] = {"a.b": student}
    config = Config.from_dict(nested)
    found = space.default(config)
    keys = [axis.keys[-1] for axis in found.values()]
    assert keys[:2] == ["learning_rate", "l2"]
    assert (len(keys) == 2) == (student["name"] in ("lr", "fm"))
    for key, axis in found.items():
        if isinstance(axis.low, int) and isinstance(axis.high, int) and not axis.log and not axis.choices:
            for value in range(axis.low + 1, axis.high):
                build.check(space.varied(config, found, {key: value}))


def test_every_student_has_a_space_of_its_own_arguments():
    document = read_yaml(space.OURS, "--space", "")
    assert document["students"].keys() == REGISTRY.keys()
    for name, axes in document["students"].items():
        assert axes.keys() <= inspect.signature(REGISTRY[name].__init__).parameters.keys() - {"rngs"}
    for key in document["common"]:
        group, name = key.split(".")
        assert name in Config().to_dict()[group]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("mlp", "masknet") else pytest.mark.long) for n in REGISTRY]
)
def test_every_students_space_is_accepted_value_by_value(name):
    walk({"name": name})


@pytest.mark.long
@pytest.mark.parametrize("name", REGISTRY)
def test_every_students_space_is_accepted_around_its_published_settings(name):
    walk(settings(name))


def test_the_default_of_several_students_has_the_keys_of_each(tiny_config):
    nested = tiny_config()
    nested["ensemble"]["students"] = {
        "one": {"name": "ecn"},
        "two": {"name": "mlp"},
        "mine": {"name": "ektf_jax.students:MLP"},  # one's own has the common part alone
    }
    found = space.default(Config.from_dict(nested))
    assert "ensemble.students.one.num_cross_layers" in found
    assert "ensemble.students.two.hidden_units" in found
    assert not any("mine" in name for name in found)
