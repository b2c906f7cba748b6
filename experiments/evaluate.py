"""`ektf evaluate` in a clone: python -m experiments.evaluate --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("evaluate")
