"""Measured claims, each with its peer beside it. Run with the allocator's settings of `experiments`."""

import experiments  # noqa: F401
