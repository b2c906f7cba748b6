"""Every published setting makes a model; parameter counts are those of the authors' logs."""

import jax
import pytest
from flax import nnx

from configs import base, ektf_latest, ektf_mlp, ml1m_ektf_latest, ml1m_ektf_mlp, published, table2, table4
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
    plain = config.to_dict()
    build.check_keys(plain, base.get_config().to_dict())
    build.check_values(plain)
    model = nnx.eval_shape(lambda: build.make_model(plain, schema(features, fields), jax.random.key(0)))
    return count_parameters(model)


FIELDS = {"criteo": 39, "ml1m": 7, "kdd12": 13, "ipinyou": 16, "kkbox": 13}


@pytest.mark.parametrize("dataset", published.DATASETS)
@pytest.mark.parametrize("model", published.MODELS)
def test_every_model_is_trainable_alone_and_among_ektfs_students_on_every_dataset(model, dataset):
    alone = table2.get_config(f"{dataset},{model}")
    assert alone.data.path == f"data/{dataset}"
    assert alone.ensemble.num_students == 1
    together = table4.get_config(f"{dataset},{model}")
    assert together.ensemble.num_students == (3 if model in ("pnn", "final1b", "ecn") else 4)
    if dataset == "ml1m":  # the others differ in numbers only
        assert parameters(alone, 100, FIELDS[dataset]) > 0
        build.make_students(together.to_dict())


# official_runs: K or the students, features and fields of the dataset, parameters.
@pytest.mark.parametrize(
    ("config", "features", "fields", "expected"),
    [
        (ml1m_ektf_latest.get_config(), 9751, 7, 959_983),
        (ektf_latest.get_config("criteo"), 910_747, 39, 17_051_091),
        (ml1m_ektf_mlp.get_config(), 9751, 7, 893_618),
        (ektf_mlp.get_config("criteo"), 910_747, 39, 15_719_154),
    ],
)
def test_parameters_are_as_many_as_in_the_authors_logs(config, features, fields, expected):
    assert parameters(config, features, fields) == expected


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
