"""`ektf train` in a clone: python -m experiments.train --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("train")
