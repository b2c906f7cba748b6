"""The interpreter of tests beside the peer: it needs PyTorch and fuxictr (`pip install ektf-jax[peers]`)."""

import importlib.util
import os
import sys

import pytest

_HERE = all(importlib.util.find_spec(name) for name in ("torch", "fuxictr"))
PEER = os.environ.get("PEERS_PYTHON") or (sys.executable if _HERE else None)

needs_peer = pytest.mark.skipif(PEER is None, reason="no PyTorch and fuxictr here, and no PEERS_PYTHON")
