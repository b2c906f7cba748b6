"""`ektf ensemble` in a clone: python -m experiments.ensemble --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("ensemble")
