"""Every published setting makes a model; parameter counts are those of the authors' logs."""

import jax
import pytest
from flax import nnx

from configs import base, ektf_copies, ektf_latest, ektf_mlp, published, scaling, table2, table4
from ektf_jax.config import Config
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.ensemble import count_parameters
from ektf_jax.errors import InputError
from ektf_jax.training import build


def schema(features, fields):
    """`fields` fields with that many features in all."""
    return Schema(
        "shape",
        make_fields([(f"f{i}", 3 if i else features - 3 * (fields - 1), 1) for i in range(fields)]),
        {},
        {},
    )


def parameters(config, features, fields):
    """The number of parameters, without making them."""
    read = Config.from_dict(config)
    build.check(read)
    model = nnx.eval_shape(lambda: build.make_model(read, schema(features, fields), jax.random.key(0)))
    return count_parameters(model)


@pytest.mark.parametrize("dataset", published.DATASETS)
@pytest.mark.parametrize("model", published.MODELS)
def test_every_model_is_trainable_alone_and_among_ektfs_students_on_every_dataset(model, dataset):
    alone = table2.get_config(f"{dataset},{model}")
    assert alone.data.path == f"data/{dataset}"
    assert alone.ensemble.num_students == 1
    together = table4.get_config(f"{dataset},{model}")
    assert together.ensemble.num_students == (3 if model in ("pnn", "final1b", "ecn") else 4)
    if dataset == "ml1m":  # the others differ in numbers only
        assert parameters(alone, 100, 7) > 0
        build.make_students(Config.from_dict(together))


# Features and fields of the official vocabularies.
OFFICIAL = {
    "criteo": (910_747, 39),
    "ml1m": (9_751, 7),
    "kdd12": (4_668_096, 13),
    "ipinyou": (665_765, 16),
    "kkbox": (91_756, 13),
}


@pytest.mark.parametrize(
    ("dataset", "kind", "num_students", "expected"),
    [
        ("criteo", "mean", 2, 15_719_154),
        ("criteo", "mean", 3, 16_292_755),
        ("criteo", "mean", 4, 16_866_356),
        ("criteo", "mean", 5, 17_439_957),
        ("criteo", "mean", 6, 18_013_558),
        ("criteo", "mean", 10, 20_307_962),
        ("criteo", "latest", 3, 17_051_091),
        ("criteo", "mean", 1, 15_145_553),
        ("criteo", "concat", 2, 15_719_955),
        ("criteo", "concat", 3, 16_293_956),
        ("criteo", "concat", 4, 16_867_957),
        ("criteo", "concat", 5, 17_441_958),
        ("criteo", "concat", 6, 18_015_959),
        ("criteo", "sum", 2, 15_719_154),
        ("criteo", "sum", 3, 16_292_755),
        ("criteo", "sum", 4, 16_866_356),
        ("criteo", "sum", 5, 17_439_957),
        ("criteo", "sum", 6, 18_013_558),
        ("kdd12", "mean", 2, 75_503_938),
        ("kdd12", "mean", 3, 75_911_139),
        ("kdd12", "mean", 4, 76_318_340),
        ("kdd12", "mean", 5, 76_725_541),
        ("kdd12", "mean", 6, 77_132_742),
        ("kdd12", "mean", 10, 78_761_546),
        ("kdd12", "latest", 3, 75_684_879),
        ("kkbox", "mean", 10, 48_484_778),
        ("kkbox", "latest", 3, 24_999_951),
        ("ml1m", "latest", 3, 959_983),
        ("ml1m", "mean", 2, 893_618),
        ("ml1m", "mean", 3, 1_262_419),
        ("ml1m", "mean", 4, 1_631_220),
        ("ml1m", "mean", 5, 2_000_021),
        ("ml1m", "mean", 6, 2_368_822),
        ("ml1m", "mean", 10, 3_844_026),
        ("ipinyou", "latest", 3, 11_755_817),
        ("ipinyou", "mean", 2, 11_505_042),
        ("ipinyou", "mean", 3, 11_931_443),
        ("ipinyou", "mean", 4, 12_357_844),
        ("ipinyou", "mean", 5, 12_784_245),
        ("ipinyou", "mean", 10, 14_916_250),
        ("ipinyou", "mean", 6, 13_210_646),
    ],
)
def test_parameters_are_as_many_as_in_the_authors_logs(dataset, kind, num_students, expected):
    """All shapes of the authors' 47 runs; "latest" is EKTF_Latest, the others are MLPs by their fusion.

    A concat ensemble has, as theirs, the students' own output layers, which it does not use.
    """
    config = ektf_latest.get_config(dataset) if kind == "latest" else ektf_mlp.get_config(dataset)
    config.ensemble.num_students = num_students
    if kind in ("sum", "concat"):
        config.transfer.name, config.ensemble.fusion = "none", kind
    assert parameters(config, *OFFICIAL[dataset]) == expected


# Of BARS's runs on frappe_x1, whose FuxiCTR has one entry less per field, and of QNN-alpha's authors. The
# others differ: DNN from BARS's own settings, FINAL(1B) by the gate, CIN by a linear part, FinalMLP by
# embeddings of its gates, DeepFM by a bias and FINAL(2B) by a hundred.
FRAPPE = {
    "lr": 5390,
    "fm": 59280,
    "pnn": 433491,
    "wide_deep": 423280,
    "dcn": 418591,
    "crossnetv2": 94391,
    "dcnv2": 458391,
    "xdeepfm": 429809,
    "autoint": 622180,
    "afn": 4482205,
    "edcn": 86351,
    "masknet": 571691,
    "qnn": 764369,
}


@pytest.mark.parametrize("model", FRAPPE)
def test_models_on_frappe_have_the_published_numbers_of_parameters(model):
    features = 5383 if model == "qnn" else 5389
    assert parameters(table2.get_config(f"frappe,{model}"), features, 10) == FRAPPE[model]


@pytest.mark.parametrize(
    ("dataset", "model", "expected"),
    [
        ("ml1m", "fcn", 201_728),
        ("ml1m", "qnn", 207_649),
        ("criteo", "fcn", 15_944_754),
        ("criteo", "qnn", 22_372_577),
        ("kdd12", "fcn", 74_866_354),
        ("ipinyou", "fcn", 10_885_728),
        ("ipinyou", "qnn", 11_182_929),
        ("kkbox", "fcn", 25_625_878),
        ("kkbox", "qnn", 36_711_425),
    ],
)
def test_fcn_and_qnn_alpha_have_as_many_parameters_as_in_their_logs(dataset, model, expected):
    assert parameters(table2.get_config(f"{dataset},{model}"), *OFFICIAL[dataset]) == expected


def test_qnn_alpha_teaches_itself_alone_and_in_copies():
    for config in (table2.get_config("ml1m,qnn"), ektf_copies.get_config("ml1m,qnn")):
        assert config.transfer.self == 2
    assert table2.get_config("ml1m,fcn").transfer.self == 1
    copies = ektf_copies.get_config("frappe,qnn")
    assert (copies.embedding.dim, copies.embedding.l2, copies.transfer.name) == (16, 0.1, "ektf")


def test_what_differs_from_the_tower_is_published():
    config = table2.get_config("ml1m,deepfm")
    assert config.ensemble.students.deepfm.to_dict() == {
        "name": "deepfm", "wide": "ids", "hidden_units": (400, 400, 400), "dropout": 0.1,
    }  # fmt: skip
    assert table2.get_config("criteo,deepfm").ensemble.students.deepfm.hidden_units == (1000,) * 5
    assert "wide" not in table4.get_config("ml1m,deepfm").ensemble.students.deepfm
    lr = table2.get_config("ml1m,lr")
    assert (lr.embedding.dim, lr.embedding.l2) == (0, 5e-6)
    assert table2.get_config("kkbox,cin").data.batch_size == 5000


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("ml1m", "has 1 parts, not 2"),
        ("ml1m,deepfn", r"'deepfn' is unknown; did you mean 'deepfm'\?"),
        ("mlm1,deepfm", "did you mean 'ml1m'"),
    ],
)
def test_a_wrong_argument_is_refused(argument, message):
    with pytest.raises(InputError, match=message):
        table2.get_config(argument)


# The logs do not name the number of features. It follows from the count, as each has ten weights: with gates
# where there are none, or none where there are, a remainder is left (but for frappe_x1, whose gates have 60).
@pytest.mark.parametrize(
    ("features", "fields", "options", "expected"),
    [
        (2_086_316, 39, {"regulation": True, "temperature": 20.0}, 21_329_055),  # criteo_x1
        (1_298_599, 22, {"regulation": False}, 13_136_471),  # avazu_x1
        (5_389, 10, {"regulation": True, "temperature": 5.0}, 86_351),  # frappe_x1
        (90_239, 3, {"regulation": False, "num_cross_layers": 2}, 904_701),  # movielenslatest_x1
    ],
)
def test_edcn_has_the_parameters_of_barss_logs(features, fields, options, expected):
    config = base.get_config()
    config.embedding.dim = 10
    config.ensemble.num_students = 1
    config.ensemble.students = {"edcn": {"name": "edcn", "residual": True, **options}}
    assert parameters(config, features, fields) == expected


def test_edcns_published_settings_are_those_of_barss_runs():
    bars: dict[str, dict] = {
        "ml1m": {"num_cross_layers": 2, "residual": True, "regulation": False},
        "criteo": {"residual": True, "temperature": 20.0},
    }
    for dataset, expected in bars.items():
        student, run = published.settings("edcn", dataset, alone=True)
        assert (student, run) == ({"name": "edcn", **expected}, {})


def test_the_gates_of_final_start_as_the_authors_do():
    assert ektf_latest.get_config("ml1m").ensemble.students.final.gate_init == "xavier"
    assert published.settings("final1b", "ml1m", alone=True)[0]["gate_init"] == "xavier"
    assert "gate_init" not in published.settings("final2b", "ml1m", alone=True)[0]


@pytest.mark.parametrize("dataset", ["ml1m", "frappe"])
def test_runs_of_the_scaling_study_differ_by_what_their_names_say(dataset):
    runs = {name: Config.from_dict(run) for name, run in scaling.get_config(dataset).runs.items()}
    base_run = runs["base/mlp_k4_s2024"]
    assert (base_run.embedding.sharing, base_run.transfer.self, base_run.train.ema) == ("own", 1, 0)
    for name, run in runs.items():
        if run.ensemble.num_students in (2, 3) and run.seed == scaling.SEEDS[0]:
            build.check(run)
        assert name.endswith(f"_k{run.ensemble.num_students}_s{run.seed}")
    assert {name.partition("/")[0] for name in runs} == set(scaling.AXES)
    assert runs["loss/self_k4_s2024"].transfer.self == runs["students/qnn_k4_s2024"].transfer.self == 2
    assert runs["sharing/half_k4_s2024"].embedding.own_columns == base_run.embedding.dim // 2
    assert runs["students/mixture_k9_s2026"].ensemble.labels.count("qnn") == 3
    assert set(scaling.get_config(f"{dataset},loss").runs) == {n for n in runs if n.startswith("loss/")}
    with pytest.raises(InputError, match="did you mean 'loss'"):
        scaling.get_config(f"{dataset},los")
