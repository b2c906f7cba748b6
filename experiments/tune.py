"""`ektf tune` in a clone: python -m experiments.tune --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("tune")
