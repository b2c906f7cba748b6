"""`ektf quickstart` in a clone: python -m experiments.quickstart --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("quickstart")
