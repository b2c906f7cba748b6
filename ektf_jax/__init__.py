"""EKTF: ensemble learning via knowledge transfer for CTR prediction, in JAX.

`ektf_jax.losses` is usable on its own: it imports jax and optax and nothing else.
"""

__version__ = "0.1.0"
