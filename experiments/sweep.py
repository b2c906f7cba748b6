"""`ektf sweep` in a clone: python -m experiments.sweep --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("sweep")
