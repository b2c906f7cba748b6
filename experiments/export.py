"""`ektf export` in a clone: python -m experiments.export --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("export")
