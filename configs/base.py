"""What every experiment shares: the authors' settings (DESIGN of the paper's Section 4.1.5 and run logs)."""

from collections.abc import Collection, Mapping
from typing import Any

import ml_collections

from configs import published
from ektf_jax import transfer
from ektf_jax.config import Config
from ektf_jax.errors import InputError, unknown
from ektf_jax.keys import to_dict


def get_config() -> ml_collections.ConfigDict:
    """EKTF over K homogeneous MLPs; an experiment names its data and changes what differs.

    The keys, their defaults and their meaning are in ektf_jax/config.py, the options of a transfer method in
    its file of ektf_jax/transfer/.
    """
    config: dict[str, Any] = Config().to_dict()
    config["transfer"] |= {name: to_dict(method()) for name, method in transfer.METHODS.items()}
    # It takes a text or a number.
    config["embedding"]["sharing"] = ml_collections.FieldReference("shared", field_type=object)
    return ml_collections.ConfigDict(config)


def on_dataset(dataset: str, run: Mapping[str, Any] | None = None) -> ml_collections.ConfigDict:
    """The base on one of the published datasets, prepared in data/NAME; `run` changes its settings."""
    config = get_config()
    settings = published.DATASETS[dataset] | dict(run or {})
    config.data.path = f"data/{dataset}"
    config.data.batch_size = settings["batch_size"]
    config.embedding.dim = settings["dim"]
    config.embedding.l2 = float(settings["l2"])
    config.transfer.self = settings.get("self", 1)
    return config


def arguments(text: str, *choices: Collection[str]) -> list[str]:
    """The comma-separated argument of a config file, one of each of the choices. InputError if not."""
    values = text.split(",")
    if len(values) != len(choices):
        raise InputError(f"the config's argument {text!r} has {len(values)} parts, not {len(choices)}")
    for value, valid in zip(values, choices, strict=True):
        if value not in valid:
            raise unknown("the config's argument", value, valid)
    return values
