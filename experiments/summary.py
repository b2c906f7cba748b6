"""`ektf summary` in a clone: python -m experiments.summary --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("summary")
