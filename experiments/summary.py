"""Prints what a config trains: python -m experiments.summary --config=FILE[:ARG] [--config.KEY=VALUE ...].

Parameters per part, FLOPs per sample and shapes, for the prepared dataset that the config names.
"""

from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from configs import base
from ektf_jax.data import encoded, synthetic
from ektf_jax.data.schema import Schema
from ektf_jax.errors import InputError
from ektf_jax.summary import summarize
from ektf_jax.training import build
from experiments import cli

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment's config file.", lock_config=False, accept_new_attributes=True
)
_DEPTH = flags.DEFINE_integer("depth", 2, "How far down the parts of a student are listed.", lower_bound=1)
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    """Print the summary of the config's ensemble."""
    del argv
    try:
        config = _CONFIG.value.to_dict()
    except OSError as error:  # raised at the first look at a config file that is not there
        raise InputError(str(error)) from None
    build.check_keys(config, base.get_config().to_dict())
    build.check_values(config)
    if config["data"]["path"]:
        schema = encoded.open_schema(Path(config["data"]["path"]))
    else:
        schema = Schema("synthetic", synthetic.fields(build.make_synthetic_spec(config)), {}, {})
    model = build.make_model(config, schema, jax.random.key(0))
    print(summarize(model, schema.num_fields, depth=_DEPTH.value))


if __name__ == "__main__":
    cli.run(main)
