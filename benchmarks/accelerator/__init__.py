"""What an accelerator does with this library, beside a CPU and beside PyTorch: benchmarks/accelerator.sh.

Every part is a process of its own with a time limit, and what it finds is a line of a file as soon as it is
found: a run that is cut off leaves what it had. The parts:

- correctness: losses, gradients, twenty training steps and an evaluation of every student and of EKTF_Latest
  on the device, beside the same on the CPU, float32.
- rates: what the device reaches in a plain product and a plain copy.
- steps: training steps of published shapes in float32, TF32 and bfloat16, beside the peer's.
- residence: the loop of experiments.train with its rows on the host and on the device.
- together: runs of a sweep, one by one and as one.
- runs: experiments.train to its result.
- tests: those of the fast tests that need no package but JAX's own and pytest, on the default device.
- profile: the kernels of a step that take longest.
"""

from typing import Any

from benchmarks import common
from configs import published
from ektf_jax.data.schema import Schema

# How a training step multiplies. float32 is exact; tf32 is what JAX does by default on a GPU; bfloat16 is
# config.ensemble.matmul_dtype.
PRECISIONS = ("tf32", "float32", "bfloat16")
MATMUL_PRECISION = {"float32": "highest", "tf32": None, "bfloat16": None}

Case = tuple[str, int]  # SHAPE and K

CASES: tuple[Case, ...] = (
    *(("ml1m", 10), ("ml1m", 2), ("ml1m", 1), ("ml1m_latest", 3)),
    *(("criteo", 2), ("criteo", 10), ("ml1m", 64), ("ml1m", 128)),
)
RUNS = (("mlp_k2", "ml1m", 2), ("mlp_k10", "ml1m", 10), ("latest_k3", "ml1m_latest", 3))

# What is compared with the CPU: the ensembles, and every student alone.
CHECKED = ("latest", "ektf", *published.MODELS, "dagfm")


def case_name(case: Case) -> str:
    """As SHAPE:K."""
    return f"{case[0]}:{case[1]}"


def settings(case: Case, smoke: bool, **changes: Any) -> tuple[dict[str, Any], Schema]:
    """Config and schema of a case; in a smoke test with layers and batches of next to nothing.

    `changes` are groups of the config with some of their keys.
    """
    flat = {f"{group}.{key}": value for group, keys in changes.items() for key, value in keys.items()}
    return common.config(*case, flat, small=smoke), common.schema(case[0])
