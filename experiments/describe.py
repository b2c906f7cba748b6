"""`ektf describe` in a clone: python -m experiments.describe --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("describe")
