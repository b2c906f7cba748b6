"""Prints what a config trains: `ektf summary --config=FILE[:ARG] [--config.KEY=VALUE ...]`.

Parameters per part, FLOPs per sample and shapes, for the prepared dataset that the config names.
"""

from absl import flags

from ektf_jax.cli import config

_CONFIG = config.define()
_DEPTH = flags.DEFINE_integer("depth", 2, "How far down the parts of a student are listed.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Print the summary of the config's ensemble."""
    import jax  # seconds, which --help has not
    from flax import nnx

    from ektf_jax.summary import summarize
    from ektf_jax.training import build

    del argv
    settings = config.read_run(_CONFIG)
    build.check(settings)
    schema = build.open_schema(settings)
    model = nnx.eval_shape(lambda: build.make_model(settings, schema, jax.random.key(0)))
    print(summarize(model, schema.num_fields, depth=_DEPTH.value))
