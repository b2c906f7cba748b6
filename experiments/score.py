"""`ektf score` in a clone: python -m experiments.score --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("score")
