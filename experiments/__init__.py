"""The commands in a clone: `python -m experiments.NAME` is `ektf NAME` (ektf_jax/cli/NAME.py).

`python -m experiments.X` and `python -m benchmarks.X` start anew at once, before anything is imported: see
ektf_jax/cli/start.py.
"""

import sys

from ektf_jax.cli import start

# While `python -m` imports the package of its module, this is the first argument.
if sys.argv[0] == "-m":
    start.anew()
