"""`ektf importance` in a clone: python -m experiments.importance --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("importance")
