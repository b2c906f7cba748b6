"""Trains every run of a sweep: `ektf sweep --config=FILE[:ARG] --workdir=DIR [--list]`.

The config's `runs` maps a name to the config of a run, which is trained in DIR/NAME. Finished runs are
skipped, interrupted ones go on, failures are recorded and reported at the end. The teachers of a run are
names of others, which are trained before it; where one fails, the run is blocked. Ctrl-C and SIGTERM save the
run that is trained and end the sweep. Started again, or started several times at once on the same DIR, the
sweep does no run twice.

--grid=KEY=VALUE,VALUE makes the runs of one config, or each run of a sweep, one for every combination of the
values of all grids, and --seeds=N each of these N times: `ektf sweep --config=configs/quickstart.py
--grid=train.learning_rate=1e-3,3e-4 --grid=ensemble.students.*.dropout=0,0.1 --seeds=3 --workdir=DIR --list`.
"""

import signal
import subprocess
import sys
from types import FrameType
from typing import TYPE_CHECKING

from absl import flags

from ektf_jax import cli
from ektf_jax.cli import config, grid, shell
from ektf_jax.errors import InputError
from ektf_jax.training import stopping

if TYPE_CHECKING:
    from ektf_jax.runs import sweep

_CONFIG = config.define()
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the runs are, a directory each.", required=True)
_GRID = flags.DEFINE_multi_string(
    "grid", [], "KEY=VALUE,VALUE: runs with each of these; * in KEY is any key."
)
_SEEDS = flags.DEFINE_integer(
    "seeds", None, "Each run with its config's seed and those that follow, so many."
)
_LIST = flags.DEFINE_bool("list", False, "Show the plan and its estimated time; train nothing.")
_TOGETHER = flags.DEFINE_string(
    "together",
    "1",
    "So many runs that differ in seed, learning rate and L2 are one process; auto: up to 16, as many at once"
    " as fit in half of the memory.",
)
_ONLY = flags.DEFINE_multi_string("only", [], "Train this run, in this process; several together.")


def main(argv: list[str]) -> None:
    """Train what is not finished; exit with 1 if something failed."""
    from ektf_jax.runs import sweep  # seconds, which --help has not

    del argv
    together = _together(_TOGETHER.value)
    read, directory = config.read(_CONFIG), shell.path(_WORKDIR)
    if _GRID.value or _SEEDS.value is not None:
        read = {"runs": grid.runs(read, _GRID.value, _SEEDS.value)}
    runs = sweep.read(read.get("runs", {}))
    if _LIST.value:
        sweep.check_data(runs, directory, whole=False)
        print(_table(sweep.plan(runs, directory)))
        return
    if _ONLY.value:
        for name in _ONLY.value:
            if name not in runs:
                raise InputError(f"--only is {name!r}; the sweep has {', '.join(runs)}")
        sweep.train({name: runs[name] for name in _ONLY.value}, directory, at_once=together)
        return
    sweep.check_data(runs, directory)
    failed = sweep.work(runs, directory, _train, together=together or sweep.AUTO)
    plan = sweep.plan(runs, directory)
    print(_table(plan))
    if failed:
        print(f"failed here: {', '.join(failed)}; failure.json and stderr.log in their directories say why")
        sys.exit(1)


def _together(given: str) -> int | None:
    """How many runs are one process, None for as many as fit."""
    if given == "auto":
        return None
    if not given.isdecimal() or int(given) < 1:
        raise InputError(f"--together={given}: is neither auto nor a number from 1 on")
    return int(given)


def _train(*names: str) -> str | None:
    """Train one run, or several together, in a process of their own: what happens to it, happens there alone.

    Its standard error stays in DIR/NAME/stderr.log, of the first run. It is in a session of its own, so that
    Ctrl-C comes here alone; a signal that asks to stop is passed on once it is there, and the sweep ends when
    the run is saved.
    """
    command = [sys.executable, *cli.another("sweep"), *sys.argv[1:], *(f"--only={name}" for name in names)]
    log = shell.path(_WORKDIR) / names[0] / "stderr.log"
    asked: list[int] = []
    process: subprocess.Popen | None = None

    def pass_on(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if process is not None and asked.count(signal.SIGINT) < 2:
            process.terminate()
        elif process is not None:  # who presses Ctrl-C twice will not wait
            process.kill()

    # A terminal that is closed stops the run too, unless nohup says that it shall not.
    hangup = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL else []
    with log.open("wb") as file, stopping.handling(pass_on, signal.SIGINT, signal.SIGTERM, *hangup):
        # Open files are left open for the child: the claim stays with it, should this process be killed.
        process = subprocess.Popen(command, stderr=file, close_fds=False, start_new_session=True)
        if asked:
            process.terminate()
        process.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing on stderr"]
    if asked:
        where = lines[-1] if process.returncode > 128 else f"{names[0]}: stopped; the same command goes on"
        raise stopping.Stopped(where, asked[0])
    return None if process.returncode == 0 else f"exit status {process.returncode}: {lines[-1]}"


def _table(plan: "list[sweep.Planned]") -> str:
    width = max(len(run.name) for run in plan)
    lines = [
        f"{run.name:<{width}}  {run.state:<11}  {_minutes(run.seconds):>9}"
        + ("  estimated" if run.state != "done" and run.seconds is not None else "")
        for run in plan
    ]
    done = [run for run in plan if run.state == "done"]
    left = [run.seconds for run in plan if run.state != "done"]
    rest = _minutes(None if None in left else sum(seconds for seconds in left if seconds is not None))
    return "\n".join([*lines, f"{len(done)} of {len(plan)} done, {rest} left"])


def _minutes(seconds: float | None) -> str:
    return "? min" if seconds is None else f"{seconds / 60:.1f} min"
