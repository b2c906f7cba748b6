"""Rates and kernels of the default device: python -m benchmarks.accelerator.device JSON

The task is {"smoke": BOOL}. A line `rates` or `profile` of stdin is answered by one with what was found.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import accelerator
from benchmarks.accelerator import steps

PRODUCT, COPY = 8192, 1 << 30  # rows and columns of a product's factors; numbers copied
SMALL_PRODUCT, SMALL_COPY = 512, 1 << 22
SHOWN = 30  # kernels
PROFILED: tuple[accelerator.Case, accelerator.Case] = (("ml1m", 10), ("ml1m", 2))  # the second if smoke


def rates(smoke: bool) -> dict[str, float]:
    """FLOP/s of a square product in each precision, on random numbers; bytes/s of one pass, both ways."""
    size = SMALL_PRODUCT if smoke else PRODUCT
    a, b = jax.random.normal(jax.random.key(0), (2, size, size))
    found = {}
    for precision in accelerator.PRECISIONS:
        dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
        x, y = a.astype(dtype), b.astype(dtype)
        with jax.default_matmul_precision(accelerator.MATMUL_PRECISION[precision]):
            multiply = jax.jit(lambda x, y: jnp.dot(x, y, preferred_element_type=jnp.float32))
            found[precision] = 2 * size**3 / _best(partial(multiply, x, y))
    x = jnp.ones(SMALL_COPY if smoke else COPY)
    increment = jax.jit(lambda x: x + 1)
    return found | {"bytes": 2 * x.nbytes / _best(partial(increment, x))}


def _best(call: Callable[[], jax.Array], calls: int = 10) -> float:
    """Seconds of the shortest of some calls, the first of which compiles."""
    times = []
    for _ in range(1 + calls):
        started = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - started)
    return min(times[1:])


def profile(smoke: bool, count: int = 5) -> dict[str, Any]:
    """Milliseconds of a step by kernel: the longest ones, and all together.

    On a GPU these are what its queues ran; elsewhere, what the host's threads did.
    """
    case = steps.Prepared({"precision": "tf32", "stack": "vmap", "smoke": smoke}, PROFILED[smoke])
    program = case.lower().compile(case.options)
    state, _ = jax.block_until_ready(program(case.state, *case.batch))
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            for _ in range(count):
                state, _ = jax.block_until_ready(program(state, *case.batch))
        (file,) = Path(directory).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(file))
        planes = list(data.planes)
        chosen = [plane for plane in planes if "GPU" in plane.name or "TPU" in plane.name] or planes
        kernels: Counter[str] = Counter()
        for plane in chosen:
            for line in plane.lines:
                # A GPU's other lines tell the same time again, by module, by operation, by source.
                if "GPU" not in plane.name or line.name.startswith("Stream"):
                    for event in line.events:
                        kernels[event.name] += event.duration_ns / 1e6 / count
        lines = [f"{plane.name}: {line.name}" for plane in chosen for line in plane.lines]
    longest = [[name[:160], round(milliseconds, 5)] for name, milliseconds in kernels.most_common(SHOWN)]
    return {"kernels": longest, "all_ms": round(sum(kernels.values()), 4), "lines": lines[:50]}


def main() -> None:
    """Do what stdin names."""
    task = json.loads(sys.argv[1])
    print(json.dumps({"ready": 0}), flush=True)
    for line in sys.stdin:
        try:
            found: dict[str, Any] = (
                rates(task["smoke"]) if line.strip() == "rates" else profile(task["smoke"])
            )
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"[:2000]}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
