"""The flag --config of the command lines that take one."""

from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from configs import base
from ektf_jax.errors import InputError
from ektf_jax.training import build


def define() -> flags.FlagHolder:
    """The flag --config=FILE[:ARG], with --config.KEY=VALUE for every key.

    It accepts unknown keys, so that `read` can name them and the nearest valid one.
    """
    flag = config_flags.DEFINE_config_file(
        "config", None, "The experiment's config file.", lock_config=False, accept_new_attributes=True
    )
    flags.mark_flag_as_required("config")
    return flag


def read(flag: flags.FlagHolder) -> dict[str, Any]:
    """The config as plain nested data; InputError where its file is not there."""
    try:
        config = flag.value
        # get_config may return plain data.
        return config.to_dict() if isinstance(config, ml_collections.ConfigDict) else dict(config)
    except OSError as error:  # raised at the first look at it
        raise InputError(str(error)) from None


def read_run(flag: flags.FlagHolder) -> dict[str, Any]:
    """The config of one run, with exactly the keys of configs/base.py."""
    config = read(flag)
    build.check_keys(config, base.get_config().to_dict())
    return config
