"""A bundle: a directory that holds all that a prediction needs, and nothing else; see `reader`, `export`."""

from ektf_jax.bundle.reader import Bundle, load

__all__ = ["Bundle", "load"]
