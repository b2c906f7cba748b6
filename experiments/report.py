"""`ektf report` in a clone: python -m experiments.report --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("report")
