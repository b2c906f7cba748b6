"""`ektf compare` in a clone: python -m experiments.compare --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("compare")
