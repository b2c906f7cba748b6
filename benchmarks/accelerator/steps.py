"""Training steps on the default device: python -m benchmarks.accelerator.steps JSON

The task is {"precision": ..., "stack": ..., "how": ..., "cases": [[SHAPE, K], ...], "threads": N,
"steps": N, "seconds": S, "smoke": BOOL}; `how` is "two passes" for BatchNorm's statistics as a CPU computes
them. All cases are compiled first, on so many threads, and a line says so; then each line SHAPE:K of stdin is
answered by one with that case's times: one case at a time has the device.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from benchmarks import accelerator, common
from ektf_jax import transfer
from ektf_jax.config import Config
from ektf_jax.ensemble import count_parameters
from ektf_jax.layers import activation
from ektf_jax.training import build, compiler
from ektf_jax.training.optimizer import make_optimizer
from ektf_jax.training.step import init_state, make_train_step

IN_A_ROW = 16  # steps of the program that makes many of them


class Prepared:
    """A case: its first state and its batch, and its programs, one step and `IN_A_ROW` of them in one."""

    one: Future
    many: Future

    def __init__(self, task: dict[str, Any], case: accelerator.Case):
        nested, schema = accelerator.settings(case, task["smoke"])
        matmul_dtype = "bfloat16" if task["precision"] == "bfloat16" else "float32"
        nested["ensemble"] |= {"stack": task["stack"], "matmul_dtype": matmul_dtype}
        config = Config.from_dict(nested)
        self.batch_size = config.data.batch_size
        model = build.make_model(config, schema, jax.random.key(0))
        self.params = count_parameters(model)
        optimizer = make_optimizer(config.train.clip_norm)
        graphdef, self.state = init_state(model, optimizer, jax.random.key(1))
        self.step: Any = make_train_step(
            graphdef, optimizer, transfer.read(config.transfer), l2=config.embedding.l2
        )
        learning_rate = np.float32(config.train.learning_rate)
        self.batch = jax.device_put((common.random_rows(schema, self.batch_size), learning_rate))
        self.precision, self.options = task["precision"], compiler.options(matmul_dtype)

    def lower(self, steps: int = 1) -> Any:
        """A program of so many steps, to be compiled."""

        def many(state: Any, *batch: Any) -> Any:
            return jax.lax.scan(lambda state, _: self.step(state, *batch), state, None, length=steps)

        program = self.step if steps == 1 else jax.jit(many, donate_argnums=0)
        with jax.default_matmul_precision(accelerator.MATMUL_PRECISION[self.precision]):
            return program.lower(self.state, *self.batch)

    def compile_in(self, pool: ThreadPoolExecutor) -> None:
        """Start to compile the programs."""
        self.one = pool.submit(_compile, self.lower(), self.options)
        self.many = pool.submit(_compile, self.lower(IN_A_ROW), self.options)

    def measure(self, steps: int, seconds: float) -> dict[str, Any]:
        """Seconds of single steps, of a step among many calls, and of one in a program of many."""
        (one, one_compiled), (many, _) = self.one.result(), self.many.result()
        losses = []

        def call(program: Callable[..., Any], count: int) -> float:
            started = time.perf_counter()
            for _ in range(count):
                self.state, metrics = program(self.state, *self.batch)
            jax.block_until_ready(self.state)
            losses.append(float(np.ravel(metrics.loss)[-1]))
            return time.perf_counter() - started

        call(one, 2)
        count = max(3, min(steps, int(seconds / call(one, 1))))
        single = [call(one, 1) for _ in range(count)]
        row = [call(one, count) / count for _ in range(3)]
        call(many, 1)
        turns = max(1, min(3, int(seconds / IN_A_ROW / min(row))))
        program = [call(many, 1) / IN_A_ROW for _ in range(turns)]
        return {
            "batch_size": self.batch_size,
            "params": self.params,
            "seconds": common.spread(single, 7),
            "row_seconds": common.spread(row, 7),
            "device_seconds": common.spread(program, 7),
            "compile_seconds": round(one_compiled, 2),
            **_cost(one),
            "loss": losses[-1],
        }


def _compile(lowered: Any, options: compiler.Options) -> tuple[Any, float]:
    started = time.perf_counter()
    return lowered.compile(dict(options)), time.perf_counter() - started


def _cost(program: Any) -> dict[str, Any]:
    """FLOPs and bytes of a program as its compiler counts them, and what it needs beside its arguments."""
    cost, memory = program.cost_analysis() or {}, program.memory_analysis()
    return {
        "compiler_flops": cost.get("flops"),
        "compiler_bytes": cost.get("bytes accessed"),
        "temporary_bytes": getattr(memory, "temp_size_in_bytes", None),
    }


def main() -> None:
    """Prepare the cases, then time those that stdin names."""
    task = json.loads(sys.argv[1])
    if task["how"] == "two passes":
        activation._in_one_pass = activation._in_two_passes
    started = time.perf_counter()
    with ThreadPoolExecutor(task["threads"]) as pool:
        prepared = {
            accelerator.case_name((shape, k)): Prepared(task, (shape, k)) for shape, k in task["cases"]
        }
        for case in prepared.values():
            case.compile_in(pool)
        for case in prepared.values():
            case.one.result()
            case.many.result()
    device = jax.devices()[0]
    ready = {
        "ready": round(time.perf_counter() - started, 1),
        "device": device.device_kind,
        "platform": device.platform,
        "versions": common.versions("jax", "jaxlib", "flax", "optax", "numpy"),
    }
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        try:
            found = prepared.pop(line.strip()).measure(task["steps"], task["seconds"])
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"[:2000]}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
