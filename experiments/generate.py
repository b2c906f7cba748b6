"""`ektf generate` in a clone: python -m experiments.generate --help."""

from ektf_jax import cli

if __name__ == "__main__":
    cli.call("generate")
