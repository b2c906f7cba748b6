"""Runs that are finished, and many of them: what they were and what came of them."""

from ektf_jax.runs.run import Run, load_run

__all__ = ["Run", "load_run"]
