import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import base
from ektf_jax import losses, students, transfer
from ektf_jax.config import Config
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.data.synthetic import SyntheticSpec
from ektf_jax.ensemble import Prediction
from ektf_jax.errors import InputError
from ektf_jax.students.mlp import MLP
from ektf_jax.training import build
from ektf_jax.training.identity import identity

SCHEMA = Schema("tiny", make_fields([("a", 4, 1), ("b", 5, 2)]), {}, {})


def make_config(**changes):
    """The base config as plain nested data, with `a__b=value` for config.a.b = value."""
    config = base.get_config().to_dict()
    for path, value in changes.items():
        *groups, key = path.split("__")
        place = config
        for group in groups:
            place = place[group]
        place[key] = value
    return config


def message_of(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return str(caught.value)


def check(config):
    build.check(Config.from_dict(config))


def make_students(config):
    return build.make_students(Config.from_dict(config))


def make_synthetic_spec(config):
    return build.make_synthetic_spec(Config.from_dict(config))


# Keys


def test_the_base_config_has_the_keys_and_the_defaults_and_the_options_of_every_method():
    config = base.get_config().to_dict()
    methods = config["transfer"].keys() & transfer.METHODS.keys()
    assert methods == transfer.METHODS.keys()
    for name in methods:
        del config["transfer"][name]
    assert config == Config().to_dict()


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("sede", "config.seed"),
        ("train__learning_rat", "config.train.learning_rate"),
        ("train__max_epoch", "config.train.max_epochs"),
        ("ensemble__num_student", "config.ensemble.num_students"),
        ("transfer__ekft", "config.transfer.ektf"),
        ("transfer__ektf__examinations", "config.transfer.ektf.examination"),
        ("data__batchsize", "config.data.batch_size"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_valid_one(key, nearest):
    message = message_of(check, make_config(**{key: 1}))
    assert message.startswith(
        f"config key 'config.{key.replace('__', '.')}' is unknown; did you mean {nearest!r}?"
    )


@pytest.mark.parametrize(
    "path", ["seed", "train", "train.patience", "transfer.none", "transfer.ektf.teacher"]
)
def test_a_key_that_is_not_there_has_its_default(path):
    config = make_config()
    *groups, key = path.split(".")
    place = config
    for group in groups:
        place = place[group]
    del place[key]
    assert identity(Config.from_dict(config)) == identity(Config.from_dict(make_config()))


def test_a_value_in_place_of_a_group_and_the_reverse_are_refused():
    assert message_of(check, make_config(train=3)) == "config.train = 3 must be a group of keys"
    assert message_of(check, make_config(seed={"a": 1})) == "config.seed = {'a': 1} must be a value"


def test_students_and_synthetic_settings_may_have_any_keys():
    Config.from_dict(
        make_config(ensemble__students={"x": {"name": "y"}}, data__synthetic={"rows": 20, "z": 1})
    )
    for path in ("ensemble__students", "data__synthetic"):
        assert "must be a group of keys" in message_of(check, make_config(**{path: 3}))


# Values

# Per key: the values nearest to the limit that are refused, and those that are accepted.
LIMITS: dict[str, tuple[list, list]] = {
    "seed": ([-1, 2**32], [0, 2**32 - 1]),
    "data__batch_size": ([1, 0], [2]),
    "embedding__dim": ([-1], [0, 1]),
    "embedding__l2": ([-1e-9, float("nan")], [0, 0.01]),
    "embedding__sharing": (
        ["Shared", "0.5", 1.01, -0.01, float("nan"), True, None, (1,)],
        ["shared", "own", 0, 1, 0.5],
    ),
    "ensemble__num_students": ([0, -1], [1, 64]),
    "transfer__self": ([0, -1], [1, 2]),
    "train__max_epochs": ([0], [1]),
    "train__learning_rate": ([0.0, -1e-3, float("nan")], [1e-9]),
    "train__clip_norm": ([0.0, -1.0, float("inf")], [1e-9]),
    "train__patience": ([0], [1]),
    "train__learning_rate_decay": ([0.0, 1.0001, -0.1], [1e-9, 1.0]),
    "train__min_learning_rate": ([-1e-9], [0.0]),
    "train__min_delta": ([-1e-9], [0.0]),
    "train__log_every": ([0], [1]),
    "train__checkpoint_every": ([0], [1]),
}


def test_fewer_students_than_kinds_are_refused():
    kinds = {name: {"name": name} for name in ("mlp", "ecn", "pnn")}
    config = make_config(ensemble__students=kinds, ensemble__num_students=2)
    assert "leaves no copy of pnn; it must be at least 3" in message_of(check, config)
    check(make_config(ensemble__students=kinds, ensemble__num_students=3))


def test_text_is_no_boolean():
    config = make_config(ensemble__students={"mlp": {"name": "mlp", "batch_norm": "no"}})
    message = message_of(make_students, config)
    assert message == "config.ensemble.students.mlp.batch_norm = 'no' must be True or False"


def test_the_base_config_has_good_values():
    check(make_config())


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, (bad, _) in LIMITS.items() for value in bad]
)
def test_a_value_outside_its_range_is_refused_by_name(key, value):
    message = message_of(check, make_config(**{key: value}))
    assert message.startswith(f"config.{key.replace('__', '.')} = {value!r} must be ")


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, (_, good) in LIMITS.items() for value in good]
)
def test_a_value_at_the_edge_of_its_range_is_accepted(key, value):
    Config.from_dict(make_config(**{key: value}))


@pytest.mark.parametrize(
    ("key", "value", "nearest"),
    [
        ("ensemble__fusion", "meen", "mean"),
        ("ensemble__fusion", "concatenate", "concat"),
        ("ensemble__stack", "vmapped", "vmap"),
        ("transfer__name", "ekft", "ektf"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_nearest_valid_one(key, value, nearest):
    message = message_of(check, make_config(**{key: value}))
    assert message.startswith(
        f"config.{key.replace('__', '.')} {value!r} is unknown; did you mean {nearest!r}?"
    )


def test_a_name_near_to_nothing_lists_the_valid_ones():
    message = message_of(check, make_config(transfer__name="qqq"))
    names = "dagfm, dml, eckd, ektf, kd, kdcl, none, online_kd"
    assert message == f"config.transfer.name 'qqq' is unknown; valid: {names}"


@pytest.mark.parametrize("name", ["ektf", "kd", "dml"])
def test_concat_leaves_nothing_to_transfer(name):
    message = message_of(check, make_config(ensemble__fusion="concat", transfer__name=name))
    assert "config.ensemble.fusion" in message
    assert "config.transfer.name = 'none'" in message
    check(make_config(ensemble__fusion="concat", transfer__name="none"))


def test_concat_leaves_nothing_to_teach_oneself_with():
    config = make_config(ensemble__fusion="concat", transfer__name="none", transfer__self=2)
    message = message_of(check, config)
    assert "config.transfer.self = 2" in message
    assert "config.ensemble.fusion = 'concat'" in message


@pytest.mark.parametrize(
    ("sharing", "own"),
    [("shared", 0), (0.0, 0), (0, 0), (0.03, 0), (0.25, 4), (0.5, 8), (0.97, 16), (1, 16), ("own", 16)],
)
def test_the_share_of_a_students_own_is_rounded_to_columns(sharing, own):
    config = make_config(embedding__sharing=sharing)
    check(config)
    assert Config.from_dict(config).embedding.own_columns == own
    model = nnx.eval_shape(lambda: build.make_model(Config.from_dict(config), SCHEMA, jax.random.key(0)))
    assert model.embedding.table.shape == (SCHEMA.num_features, 16 - own + 2 * own)


def test_a_config_takes_sharing_as_a_text_or_a_number():
    config = base.get_config()
    for value in (0.5, "own", 1):
        config.embedding.sharing = value
        assert config.to_dict()["embedding"]["sharing"] == value


def test_runs_from_before_there_was_sharing_have_the_model_of_then():
    old = make_config()
    del old["embedding"]["sharing"], old["transfer"]["self"]
    model = nnx.eval_shape(lambda: build.make_model(Config.from_dict(old), SCHEMA, jax.random.key(0)))
    assert model.passes == 1
    assert model.embedding.table.shape == (SCHEMA.num_features, 16)


# Students

KINDS = {f"kind_{width}": {"name": "mlp", "hidden_units": (width,)} for width in (1, 2, 3)}


@pytest.mark.parametrize(
    ("num_students", "kinds", "sizes"),
    [
        (1, 1, [1]),
        (5, 1, [5]),
        (2, 2, [1, 1]),
        (5, 2, [3, 2]),
        (7, 3, [3, 2, 2]),
        (8, 3, [3, 3, 2]),
        (2, 3, [1, 1]),
    ],
)
def test_students_are_dealt_out_in_turn(num_students, kinds, sizes):
    chosen = dict(list(KINDS.items())[:kinds])
    dealt = make_students(make_config(ensemble__num_students=num_students, ensemble__students=chosen))
    assert [size for _, size in dealt] == sizes
    for width, (make, _) in enumerate(dealt, start=1):
        assert nnx.eval_shape(lambda make=make: make(2, 2, rngs=nnx.Rngs(0))).hidden_size == width


def one_student(**arguments):
    return make_config(ensemble__students={"a": arguments})


def test_options_reach_the_student():
    config = one_student(name="mlp", hidden_units=[3, 2], dropout=0.25, batch_norm=False)
    ((make, size),) = make_students(config)
    assert size == 2
    model = nnx.eval_shape(lambda: make(5, 4, rngs=nnx.Rngs(0)))
    assert isinstance(model, MLP)
    layers = model.hidden_layers
    assert [layer.kernel.shape for layer in layers.linears] == [(20, 3), (3, 2)]
    assert layers.dropout == 0.25
    assert len(layers.norms) == 0


def test_no_students_are_refused():
    message = message_of(make_students, make_config(ensemble__students={}))
    assert message.startswith("config.ensemble.students is empty")


@pytest.mark.parametrize("entry", ["mlp", {"hidden_units": (3,)}])
def test_a_student_without_a_name_is_refused(entry):
    message = message_of(make_students, make_config(ensemble__students={"a": entry}))
    assert message.startswith("config.ensemble.students.a must be a group of keys with a name")
    assert "mlp" in message


def test_an_unknown_student_is_refused_with_the_nearest_valid_one():
    message = message_of(make_students, one_student(name="mpl"))
    assert message.startswith("config.ensemble.students.a.name 'mpl' is unknown; did you mean 'mlp'?")


def test_an_unknown_option_of_a_student_is_refused_with_the_nearest_valid_one():
    message = message_of(make_students, one_student(name="mlp", hidden_unit=(3,)))
    start = "config key of student 'mlp' 'config.ensemble.students.a.hidden_unit' is unknown; did you mean "
    assert message.startswith(start + "'config.ensemble.students.a.hidden_units'?")


@pytest.mark.parametrize("option", ["rngs", "num_fields", "embedding_dim", "self"])
def test_what_the_ensemble_passes_is_no_option_of_a_student(option):
    message = message_of(make_students, one_student(name="mlp", **{option: 1}))
    assert f"config.ensemble.students.a.{option}' is unknown" in message


@pytest.mark.parametrize(
    ("option", "value"), [("dropout", 1.0), ("dropout", -0.1), ("hidden_units", ()), ("hidden_units", (3, 0))]
)
def test_a_bad_value_of_a_students_option_is_refused_by_name(option, value):
    message = message_of(make_students, one_student(name="mlp", **{option: value}))
    assert message.startswith(f"config.ensemble.students.a: {option} = ")


def test_a_kind_that_no_student_is_dealt_to_is_checked_all_the_same():
    config = make_config(ensemble__num_students=1, ensemble__students=KINDS | {"last": {"name": "mpl"}})
    assert "config.ensemble.students.last.name" in message_of(make_students, config)


class WithoutHidden(nnx.Module):
    def __init__(self, num_fields, embedding_dim, *, rngs):
        pass


def test_concat_needs_students_with_a_hidden_state(monkeypatch):
    monkeypatch.setitem(students.REGISTRY, "plain", WithoutHidden)
    config = one_student(name="plain")
    make_students(config)
    config["ensemble"]["fusion"] = "concat"
    message = message_of(make_students, config)
    assert message.startswith("config.ensemble.students.a: student 'plain' has no hidden state")


# The others


@pytest.mark.parametrize("fusion", ["sum", "concat"])
@pytest.mark.parametrize("method", sorted(set(transfer.METHODS) - {"none"}))
def test_a_fusion_that_the_method_never_sees_is_refused(fusion, method):
    taught = ("a",) if transfer.METHODS[method].most_teachers else ()
    config = make_config(ensemble__fusion=fusion, transfer__name=method, transfer__teachers=taught)
    message = message_of(check, config)
    assert message.startswith(f"config.ensemble.fusion = {fusion!r} ")
    assert message.endswith("use it with config.transfer.name = 'none'")
    check(make_config(ensemble__fusion=fusion, transfer__name="none"))


@pytest.mark.parametrize("stage", ["distillation", "finetuning"])
def test_what_starts_from_its_teacher_starts_from_no_other_run(stage):
    keys = {"transfer__name": "dagfm", "transfer__dagfm": {"stage": stage}, "transfer__teachers": ("a",)}
    check(make_config(**keys))
    message = message_of(check, make_config(**keys, train__init_from=("b",)))
    assert message.startswith("config.train.init_from = ('b',), but a run of config.transfer.name = 'dagfm'")


def test_the_model_is_the_configs():
    schema = Schema("tiny", make_fields([("a", 4, 1), ("b", 5, 2)]), {}, {})
    config = make_config(
        ensemble__num_students=5,
        ensemble__students=dict(list(KINDS.items())[:2]),
        ensemble__fusion="sum",
        ensemble__stack="vmap",
        embedding__dim=3,
    )
    model = nnx.eval_shape(lambda: build.make_model(Config.from_dict(config), schema, jax.random.key(0)))
    assert model.embedding.table.shape == (9, 3)
    assert [(group.size, group.stack, group.hidden_size) for group in model.groups] == [
        (3, "vmap", 1),
        (2, "vmap", 2),
    ]
    assert model.fusion == "sum"


def test_the_loss_is_the_configs_method_with_its_own_options():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8)), jnp.float32)
    prediction, labels = Prediction(logits, jnp.mean(logits, axis=0)), jnp.array([0.0, 1.0] * 4)
    config = make_config(transfer__name="kd", transfer__kd__weights=0.7, transfer__ektf__kd=False)
    loss, _ = jax.jit(transfer.read(Config.from_dict(config).transfer))(prediction, labels)
    expected, _ = jax.jit(lambda x: losses.kd_ctr_loss(x, labels, weights=0.7))(logits)
    assert loss == pytest.approx(float(expected), rel=1e-6)


def test_the_synthetic_spec_is_the_configs():
    settings = {"rows": 30, "values": (3, 4), "max_lens": (1, 2), "order": 2, "zipf": 0.5}
    assert make_synthetic_spec(make_config(data__synthetic=settings)) == SyntheticSpec(**settings)


def test_an_unknown_setting_of_synthetic_data_is_refused_with_the_nearest_valid_one():
    settings = {"rows": 30, "values": (3, 4), "maxlens": (1, 2)}
    message = message_of(make_synthetic_spec, make_config(data__synthetic=settings))
    start = "config key 'config.data.synthetic.maxlens' is unknown; did you mean "
    assert message.startswith(start + "'config.data.synthetic.max_lens'?")


def test_neither_data_nor_synthetic_settings_are_refused():
    assert message_of(make_synthetic_spec, make_config()).startswith("config.data.path is empty")


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("seed", 1.5, "of type int"),
        ("train__max_epochs", True, "of type int"),
        ("train__learning_rate", "0.1", "of type float"),
        ("train__learning_rate", float("inf"), "finite"),
        ("transfer__ektf__kd", "yes", "of type bool"),
        ("data__batch_size", None, "of type int"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(key, value, wanted):
    message = message_of(check, make_config(**{key: value}))
    assert message.startswith(f"config.{key.replace('__', '.')} = {value!r} must be {wanted}")


def test_a_whole_number_is_a_float():
    check(make_config(train__clip_norm=5))


def test_a_bad_option_of_a_transfer_method_is_refused_by_name():
    message = message_of(check, make_config(transfer__ektf__teacher="mean_prop"))
    assert message.startswith(
        "config.transfer.ektf.teacher 'mean_prop' is unknown; did you mean 'mean_prob'?"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"values": (3, 4)},
        {"rows": "many", "values": (3, 4)},
        {"rows": 50, "values": 3},
        {"rows": 2e3, "values": (3, 4)},
    ],
)
def test_bad_settings_of_synthetic_data_are_refused_by_name(settings):
    message = message_of(make_synthetic_spec, make_config(data__synthetic=settings))
    assert message.startswith("config.data.synthetic: ")


def test_what_was_made_for_another_config_is_not_made_again(monkeypatch):
    made = []
    real = nnx.eval_shape

    def counted(make):
        made.append(make)
        return real(make)

    monkeypatch.setattr(nnx, "eval_shape", counted)
    tried = set()
    for changes in ({}, {"seed": 7}, {"embedding__dim": 3}):
        build.check(Config.from_dict(make_config(**changes)), tried)
    assert len(made) == 2
    build.check(Config.from_dict(make_config()))
    assert len(made) == 3
    bad = Config.from_dict(make_config(ensemble__students={"mlp": {"name": "mlp", "hidden_units": ()}}))
    with pytest.raises(InputError, match="hidden_units"):
        build.check(bad, tried)
