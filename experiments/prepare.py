"""`ektf prepare` in a clone: python -m experiments.prepare --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("prepare")
