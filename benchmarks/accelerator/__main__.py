"""All parts in turn: python -m benchmarks.accelerator --out=DIR [--data=DIR] [--smoke]; see accelerator.sh.

Writes DIR/accelerator.jsonl, a line for everything found as it is found, and DIR/log.txt, what the processes
of the parts said. What can be prepared together (compilations, the comparison with the CPU) is; what is
timed has the device to itself, the most important first. Ends with 1 where anything failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import accelerator, common
from benchmarks.accelerator.processes import Records, Worker, ended, outcomes

SECONDS = 460  # in all; a run has to end within eight minutes
# Of these, at most: until the first step is timed, a case's turn, and so on.
LIMITS = {"preparing": 200, "rates": 40, "step": 25, "data": 60, "run": 75, "tests": 100, "profile": 40}

CASES: tuple[accelerator.Case, ...] = (
    *(("ml1m", 10), ("ml1m", 2), ("ml1m", 1), ("ml1m_latest", 3)),
    *(("criteo", 2), ("criteo", 10), ("ml1m", 64), ("ml1m", 128)),
)
SCANNED: tuple[accelerator.Case, ...] = (("ml1m", 10), ("ml1m", 2), ("ml1m_latest", 3), ("ml1m", 64))
# Of the peer's, what takes it minutes is left out: 64 students are 4,032 pairs.
EAGER: tuple[accelerator.Case, ...] = CASES[:7]
COMPILED = {"tf32": CASES[:6], "bfloat16": CASES[:1], "float32": CASES[:1]}
SMOKE_COMPILED: dict[str, tuple[accelerator.Case, ...]] = {"tf32": (("ml1m", 2),)}
PEERS = ("eager", "compiled")
RUNS = (("mlp_k2", "ml1m", 2), ("mlp_k10", "ml1m", 10), ("latest_k3", "ml1m_latest", 3))

# They need JAX's own packages, pytest, hypothesis and scikit-learn.
TESTS = (
    *("tests/test_losses.py", "tests/training/test_step.py", "tests/test_ensemble.py", "tests/transfer"),
    *("tests/layers/test_activation.py", "tests/layers/test_dropout.py", "tests/test_embedding.py"),
    *("tests/layers/test_matmul.py", "tests/students/test_parity.py", "tests/students/test_mlp.py"),
    *("tests/layers/test_blocks.py", "tests/students/test_registry.py"),
)
SMOKE_TESTS = ("tests/layers/test_dropout.py", "tests/layers/test_matmul.py")


Name = tuple[str, str, str]  # "vmap", "scan", "eager" or "compiled", a case, a precision


def module(name: str, task: dict[str, Any]) -> list[str]:
    """The command of a part."""
    return ["-m", f"benchmarks.accelerator.{name}", json.dumps(task)]


class Check:
    """All parts of one run."""

    def __init__(self, out: Path, data: Path | None, smoke: bool, seconds: float):
        self.out, self.data, self.smoke = out, data, smoke
        self.ends = time.monotonic() + seconds
        self.scale = seconds / SECONDS
        out.mkdir(parents=True, exist_ok=True)
        self.records = Records(out / "accelerator.jsonl", time.monotonic())
        self.log = (out / "log.txt").open("a", encoding="utf-8")
        self.cores = os.cpu_count() or 1
        self.platform, self.device = "cpu", "cpu"

    def left(self, part: str) -> float:
        """Seconds that a part may take now."""
        return max(0.0, min(self.scale * LIMITS[part], self.ends - time.monotonic()))

    def everything(self) -> None:
        """Run the parts."""
        self.records.add("machine", smoke=self.smoke, **gpu(), **common.machine())
        with ExitStack() as stack:
            self.steps(stack)
        with tempfile.TemporaryDirectory() as scratch:
            self.scratch = Path(scratch)
            self.runs()
            self.tests()

    def steps(self, stack: ExitStack) -> None:
        """Compile and compare with the CPU side by side, then time one case after another."""
        cases = CASES if not self.smoke else (("ml1m", 2),)
        scanned = SCANNED if not self.smoke else (("ml1m", 2),)

        def start(command: Sequence[str], **options: Any) -> Worker:
            worker = Worker(command, self.log, **options)
            stack.callback(worker.end)
            return worker

        workers: dict[Name, Worker] = {}

        def ours(precision: str, how: str, some: Sequence[accelerator.Case], stack: str) -> None:
            threads = max(1, self.cores // 5)
            task = {"precision": precision, "stack": stack, "cases": some, "threads": threads}
            worker = start(module("steps", task | self.timing()))
            workers.update({(how, accelerator.case_name(case), precision): worker for case in some})

        probe = start(module("device", {"smoke": self.smoke}))
        on_cpu = gpu()["gpu"] is None
        for precision in accelerator.PRECISIONS:
            # A CPU has no batched products in bfloat16.
            ours(precision, "vmap", cases, "scan" if on_cpu and precision == "bfloat16" else "vmap")
        ours("tf32", "scan", scanned, "scan")
        if has_torch():
            workers |= self.peers(start, cases, "cpu" if on_cpu else "cuda")
        else:
            self.records.add("note", text="no PyTorch here: no peer")
        late = self.wait(self.correctness(start), workers)
        if late:
            self.records.add("late", error=f"not ready in time: {', '.join(late)}")
        probe.answer(self.left("rates"))
        self.records.add("rates", **probe.ask("rates", self.left("rates")))
        for precision in accelerator.PRECISIONS:
            for case in cases:
                for how in ("vmap", "eager", "compiled"):
                    self.time_case((how, accelerator.case_name(case), precision), workers)
        for case in scanned:
            self.time_case(("scan", accelerator.case_name(case), "tf32"), workers)
        self.records.add("profile", **probe.ask("profile", self.left("profile")))

    def wait(
        self, checks: Sequence[tuple[Sequence[str], Worker]], workers: dict[Name, Worker]
    ) -> Sequence[str]:
        """Until all that goes side by side is done, or for so long; names what is not."""
        deadline = time.monotonic() + self.left("preparing")
        late = []
        for cases, check in checks:
            left = list(cases)
            while left and (found := check.answer(deadline - time.monotonic())):
                self.records.add("correctness", **found)
                left.remove(found["case"])
            late += [f"correctness of {case}" for case in left]
        for worker in dict.fromkeys(workers.values()):
            names = [" ".join(name) for name in workers if workers[name] is worker]
            ready = worker.answer(deadline - time.monotonic())
            if ready is None:
                late += names
            else:
                self.records.add("ready", of=names, **ready)
        return late

    def time_case(self, name: Name, workers: dict[Name, Worker]) -> None:
        """One case in one precision, ours or the peer's, which has the device to itself."""
        if name not in workers or self.left("step") < 1:
            return
        how, case, precision = name
        found = workers[name].ask(precision if how in PEERS else case, self.left("step"))
        if how in PEERS and "seconds" in found:
            found["seconds"] = common.spread(found["seconds"], 7)
        side = "peer" if how in PEERS else "ours"
        self.records.add("step", side=side, variant=how, case=case, precision=precision, **found)

    def peers(self, start: Any, cases: Sequence[accelerator.Case], device: str) -> dict[Name, Worker]:
        """The peer's processes: one for a case, eager, which has every precision; one for each compiled."""
        found: dict[Name, Worker] = {}

        def peer(case: accelerator.Case, variant: str, precisions: Sequence[str]) -> None:
            config, schema = accelerator.settings(case, self.smoke)
            task = common.peer_task(
                config,
                schema,
                task="variants",
                precisions=precisions,
                compile=variant == "compiled",
                device=device,
                **self.timing(),
            )
            worker = start(["benchmarks/peer.py"], first=json.dumps(task), TORCHINDUCTOR_COMPILE_THREADS="2")
            name = accelerator.case_name(case)
            found.update({(variant, name, precision): worker for precision in precisions})

        for precision, some in (SMOKE_COMPILED if self.smoke else COMPILED).items():
            for case in some:
                peer(case, "compiled", (precision,))
        for case in cases:
            if case in EAGER:
                peer(case, "eager", accelerator.PRECISIONS)
        return found

    def timing(self) -> dict[str, Any]:
        return {"steps": 3 if self.smoke else 40, "seconds": 0.5 if self.smoke else 1.5, "smoke": self.smoke}

    def correctness(self, start: Any) -> list[tuple[Sequence[str], Worker]]:
        """The comparison with the CPU: cases dealt out to some processes."""
        cases = accelerator.CHECKED if not self.smoke else ("latest", "lr")
        count = min(len(cases), max(1, self.cores // 3))
        rows = 32 if self.smoke else 256
        dealt = [cases[i::count] for i in range(count)]
        return [
            (some, start(module("correctness", {"cases": some, "rows": rows, "smoke": self.smoke})))
            for some in dealt
        ]

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
        for name, shape, students in RUNS[:1] if self.smoke else RUNS:
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
    arguments = parser.parse_args()
    check = Check(arguments.out, arguments.data, arguments.smoke, arguments.seconds)
    check.everything()
    failures = sorted(set(check.records.failures))
    check.records.add("end", failures=failures)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
