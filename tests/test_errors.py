"""Which valid name an error suggests."""

import pytest

from ektf_jax.errors import nearest

KEYS = ["train.ema", "train.learning_rate", "train.optimizer.b2", "train.optimizer.name", "data.batch_size"]


@pytest.mark.parametrize(
    ("name", "valid", "found"),
    [
        ("train.learnin_rate", KEYS, "train.learning_rate"),
        ("learning_rate", KEYS, "train.learning_rate"),
        ("train.batch_siz", KEYS, "data.batch_size"),
        ("train.learn", KEYS, "train.learning_rate"),
        ("train.lr", KEYS, None),
        ("train.optimizer.lr", KEYS, None),
        ("foo", KEYS, None),
        ("deepfn", ["deepfm", "dcn", "fm"], "deepfm"),
        ("plain", ["none", "online_kd", "ektf"], None),
        ("cosine", ["constant", "cosine_decay"], "cosine_decay"),
        ("x", [], None),
    ],
)
def test_the_nearest_name_is_near(name, valid, found):
    assert nearest(name, valid) == ("" if found is None else f"did you mean {found!r}? ")
