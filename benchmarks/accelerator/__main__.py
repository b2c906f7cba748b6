"""All parts in turn: python -m benchmarks.accelerator --out=DIR [--data=DIR] [--smoke]; see accelerator.sh.

Writes DIR/accelerator.jsonl, a line for everything found as it is found, and DIR/log.txt, what the processes
of the parts said. What a part compiles is compiled side by side; what is timed has the device to itself, the
most important part first. Ends with 1 where anything failed. --only=steps,runs does these parts alone.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import accelerator, common
from benchmarks.accelerator.processes import Records, Worker, ended, outcomes

SECONDS = 460  # in all; a run has to end within eight minutes
# Of these, at most: until the steps of a precision are ready, a case's turn, and so on.
LIMITS = {
    **{"preparing": 130, "rates": 40, "step": 25, "residence": 70, "together": 90, "data": 60},
    **{"run": 60, "correctness": 130, "tests": 90, "profile": 40},
}

# Ours beside themselves, in tf32: copies in turn, and BatchNorm's statistics as a CPU computes them.
SCANNED: tuple[accelerator.Case, ...] = (("ml1m", 10), ("ml1m", 2), ("ml1m_latest", 3), ("ml1m", 64))
IN_TWO_PASSES: tuple[accelerator.Case, ...] = (("ml1m", 10), ("ml1m", 64))
# Of the peer's, what takes it minutes is left out: 64 students are 4,032 pairs.
EAGER: tuple[accelerator.Case, ...] = accelerator.CASES[:6]
# In tf32 alone: 10 students take it two minutes.
COMPILED: tuple[accelerator.Case, ...] = accelerator.CASES[:5]

# They need JAX's own packages, pytest, hypothesis and scikit-learn.
TESTS = (
    *("tests/test_losses.py", "tests/training/test_step.py", "tests/test_ensemble.py", "tests/transfer"),
    *("tests/layers/test_activation.py", "tests/layers/test_dropout.py", "tests/test_embedding.py"),
    *("tests/layers/test_matmul.py", "tests/students/test_parity.py", "tests/students/test_mlp.py"),
    *("tests/layers/test_blocks.py", "tests/students/test_registry.py"),
)
SMOKE_TESTS = ("tests/layers/test_dropout.py", "tests/layers/test_matmul.py")


PARTS = ("steps", "residence", "together", "runs", "correctness", "tests", "profile")

HOW = ("vmap", "two passes", "scan", "eager", "compiled")
Name = tuple[str, str]  # of these one, and a case
Start = Callable[..., Worker]


def module(name: str, task: dict[str, Any]) -> list[str]:
    """The command of a part."""
    return ["-m", f"benchmarks.accelerator.{name}", json.dumps(task)]


class Check:
    """All parts of one run."""

    def __init__(self, out: Path, data: Path | None, smoke: bool, seconds: float):
        self.out, self.data, self.smoke = out, data, smoke
        self.ends = time.monotonic() + seconds
        out.mkdir(parents=True, exist_ok=True)
        self.records = Records(out / "accelerator.jsonl", time.monotonic())
        self.log = (out / "log.txt").open("a", encoding="utf-8")
        self.cores = os.cpu_count() or 1

    def left(self, part: str) -> float:
        """Seconds that a part may take now."""
        return max(0.0, min(LIMITS[part], self.ends - time.monotonic()))

    def everything(self, only: Collection[str]) -> None:
        """Run the parts that are named, in the order of their importance."""
        self.records.add("machine", smoke=self.smoke, **gpu(), **common.machine())
        with tempfile.TemporaryDirectory() as scratch:
            self.scratch = Path(scratch)
            for part in PARTS:
                if part in only:
                    getattr(self, part)()

    def steps(self) -> None:
        """Training steps in each precision, and what the device reaches at most."""
        if not has_torch():
            self.records.add("note", text="no PyTorch here: no peer")
        for precision in accelerator.PRECISIONS:
            with self.workers() as start:
                self.precision(precision, start)
        self.ask_device("rates")

    def profile(self) -> None:
        """The longest kernels of a step."""
        self.ask_device("profile")

    def ask_device(self, what: str) -> None:
        with self.workers() as start:
            probe = start(module("device", {"smoke": self.smoke}))
            probe.answer(self.left(what))
            self.records.add(what, **probe.ask(what, self.left(what)))

    @contextmanager
    def workers(self) -> Iterator[Start]:
        """What starts processes that end with the block."""
        with ExitStack() as stack:

            def start(command: Sequence[str], **options: Any) -> Worker:
                worker = Worker(command, self.log, **options)
                stack.callback(worker.end)
                return worker

            yield start

    def precision(self, precision: str, start: Start) -> None:
        """Compile the steps of a precision, ours and the peer's, side by side, then time each in turn."""
        cases: Sequence[accelerator.Case] = accelerator.CASES if not self.smoke else (("ml1m", 2),)
        on_cpu = gpu()["gpu"] is None
        workers: dict[Name, Worker] = {}
        if has_torch():
            device = "cpu" if on_cpu else "cuda"
            kinds: dict[str, Sequence[accelerator.Case]] = {
                "compiled": COMPILED if precision == "tf32" else (),
                "eager": EAGER,
            }
            for variant, some in kinds.items():
                for case in set(some) & set(cases):
                    name = variant, accelerator.case_name(case)
                    workers[name] = self.peer(start, case, variant, precision, device)
        # A CPU has no batched products in bfloat16.
        ours = [("vmap", "scan" if on_cpu and precision == "bfloat16" else "vmap", cases)]
        if precision == "tf32":
            ours += [
                ("scan", "scan", SCANNED if not self.smoke else cases),
                ("two passes", "vmap", IN_TWO_PASSES if not self.smoke else cases),
            ]
        for how, stack, some in ours:
            # Tracing is Python, so that several processes are ready sooner than one with threads.
            count = min(len(some), max(1, self.cores // 6))
            for turn in range(count):
                dealt = some[turn::count]
                task = {"precision": precision, "stack": stack, "cases": dealt, "threads": 4, "how": how}
                worker = start(module("steps", task | self.timing()))
                workers.update({(how, accelerator.case_name(case)): worker for case in dealt})
        if late := self.wait(workers):
            self.records.add("late", error=f"not ready in time, {precision}: {', '.join(late)}")
        for case in cases:
            for how in HOW:
                self.time_case((how, accelerator.case_name(case)), precision, workers)

    def wait(self, workers: dict[Name, Worker]) -> Sequence[str]:
        """Until all are ready, or for so long; names what is not."""
        deadline = time.monotonic() + self.left("preparing")
        late = []
        for worker in dict.fromkeys(workers.values()):
            names = [" ".join(name) for name in workers if workers[name] is worker]
            ready = worker.answer(deadline - time.monotonic())
            if ready is None:
                late += names
            else:
                self.records.add("ready", of=names, **ready)
        return late

    def time_case(self, name: Name, precision: str, workers: dict[Name, Worker]) -> None:
        """One case, ours or the peer's, which has the device to itself."""
        if name not in workers or workers[name].process.poll() is not None or self.left("step") < 1:
            return
        how, case = name
        side = "peer" if how in ("eager", "compiled") else "ours"
        found = workers[name].ask(case if side == "ours" else precision, self.left("step"))
        if side == "peer" and "seconds" in found:
            found["seconds"] = common.spread(found["seconds"], 7)
        self.records.add("step", side=side, variant=how, case=case, precision=precision, **found)

    def peer(self, start: Start, case: accelerator.Case, variant: str, precision: str, device: str) -> Worker:
        """A process of the peer."""
        config, schema = accelerator.settings(case, self.smoke)
        task = common.peer_task(
            config,
            schema,
            task="variants",
            precisions=(precision,),
            compile=variant == "compiled",
            device=device,
            **self.timing(),
        )
        return start(["benchmarks/peer.py"], first=json.dumps(task), TORCHINDUCTOR_COMPILE_THREADS="2")

    def timing(self) -> dict[str, Any]:
        return {"steps": 3 if self.smoke else 40, "seconds": 0.5 if self.smoke else 1.5, "smoke": self.smoke}

    def correctness(self) -> None:
        """The comparison with the CPU: cases dealt out to some processes."""
        cases = accelerator.CHECKED if not self.smoke else ("latest", "lr")
        count = min(len(cases), max(1, self.cores // 2))
        rows = 32 if self.smoke else 256
        deadline = time.monotonic() + self.left("correctness")
        with self.workers() as start:
            checks = []
            for i in range(count):
                task = {"cases": cases[i::count], "rows": rows, "smoke": self.smoke}
                # It compiles far more than it runs, so that no kernels are tried.
                flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"
                checks.append((list(cases[i::count]), start(module("correctness", task), XLA_FLAGS=flags)))
            for left, check in checks:
                while left and (found := check.answer(deadline - time.monotonic())):
                    self.records.add("correctness", **found)
                    left.remove(found["case"])
        if late := [case for left, _ in checks for case in left]:
            self.records.add("late", error=f"not ready in time: correctness of {', '.join(late)}")

    def residence(self) -> None:
        """Epochs with their rows on the host and on the device."""
        self.lines_of("residence")

    def together(self) -> None:
        """Runs of a sweep, one by one and as one."""
        self.lines_of("together")

    def lines_of(self, part: str) -> None:
        """A part that is one process, which prints a line for each thing that it finds."""
        deadline = time.monotonic() + self.left(part)
        worker = Worker(module(part, {"smoke": self.smoke}), self.log)
        while found := worker.answer(deadline - time.monotonic()):
            self.records.add(part, **found)
        if worker.process.wait():
            self.records.add(part, error="late, or it failed; log.txt may say why")

    def runs(self) -> None:
        """experiments.train to its result, or as far as it came."""
        data = self.data
        if data is None:
            data = self.scratch / "data"
            size = ["small"] if self.smoke else []
            made = ended(
                [sys.executable, "-m", "benchmarks.accelerator.data", str(data), *size], self.log, 60
            )
            if made is not None:
                self.records.add("run", error=f"no data: {made}")
                return
        for name, shape, students in accelerator.RUNS[:1] if self.smoke else accelerator.RUNS:
            if self.left("run") < 10:
                return
            workdir = self.scratch / name
            config = "ml1m_ektf_latest" if shape == "ml1m_latest" else "ml1m_ektf_mlp"
            command = [
                *(sys.executable, "-m", "experiments.train", f"--config=configs/{config}.py"),
                *(f"--config.data.path={data}", f"--workdir={workdir}"),
                f"--config.ensemble.num_students={students}",
            ]
            if self.smoke:
                command += [
                    *("--config.train.max_epochs=2", "--config.data.batch_size=512"),
                    "--config.ensemble.students.mlp.hidden_units=(16,)",
                ]
            started = time.monotonic()
            failure = ended(command, self.log, self.left("run"))
            found: dict[str, Any] = {"run": name, "seconds": round(time.monotonic() - started, 2)}
            if failure is not None:
                found["error"] = failure
            result, epochs = workdir / "result.json", workdir / "metrics.jsonl"
            if result.exists():
                found["result"] = json.loads(result.read_text(encoding="utf-8"))
            elif epochs.exists():
                found["epochs"] = [
                    json.loads(line)["valid"] for line in epochs.read_text(encoding="utf-8").splitlines()
                ]
            self.records.add("run", **found)

    def tests(self) -> None:
        """The chosen tests on the default device."""
        if self.left("run") < 10:
            return
        report = self.scratch / "tests.xml"
        chosen = SMOKE_TESTS if self.smoke else TESTS
        workers = 0 if self.smoke else max(1, self.cores // 2)
        command = [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}"),
            *("-n", str(workers), *chosen),
        ]
        started = time.monotonic()
        failure = ended(command, self.log, self.left("tests"), JAX_DEFAULT_MATMUL_PRECISION="highest")
        found: dict[str, Any] = {"seconds": round(time.monotonic() - started, 1), "files": chosen}
        if report.exists():
            found |= outcomes(report)
        else:
            found["error"] = failure
        self.records.add("tests", **found)


def gpu() -> dict[str, Any]:
    """What nvidia-smi says of the first GPU; None without one."""
    fields = "name,memory.total,driver_version,clocks.max.sm"
    try:
        found = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return {"gpu": None}
    return {"gpu": found.splitlines()[0]}


def has_torch() -> bool:
    """Whether PyTorch is here, without loading it."""
    import importlib.util

    return importlib.util.find_spec("torch") is not None


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="benchmarks/accelerator.sh")
    parser.add_argument("--out", type=Path, required=True, help="where the figures go")
    parser.add_argument("--data", type=Path, help="MovieLens-1M, encoded; without it the rows are made up")
    parser.add_argument("--smoke", action="store_true", help="small shapes, to see that all parts work")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="after so many, what is left is left out"
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts to do, with commas between")
    arguments = parser.parse_args()
    only = arguments.only.split(",")
    if unknown := set(only) - set(PARTS):
        parser.error(f"--only={arguments.only}: there is no part {min(unknown)!r}; use {', '.join(PARTS)}")
    check = Check(arguments.out, arguments.data, arguments.smoke, arguments.seconds)
    check.everything(only)
    failures = sorted(set(check.records.failures))
    check.records.add("end", failures=failures)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
