"""Commands that end early: killed at any moment or at any call that writes, on a disk that is full or
read-only, two at once.

A fault passes where what was there before is whole or the new is, where the same command, left alone, then
ends with the bits of one that nothing happened to, and where nothing else is left beside its output.
"""

import hashlib
import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.faults import material
from benchmarks.faults.nursery import Done, Nursery

LIMIT = 240
# What ends a command or fails it: at a moment, or from a call that writes on, see interposer.c.
FAULTS = ("moment", "kill", "torn", "full", "read_only", "two at once")
# Of a command that trains in processes of its own: these end at a moment, and it goes on.
PARENTS = (*FAULTS, "child")
# Of a run: times, and what has times in it.
_PASSING = ("seconds", "per_second", "input_wait", "versions", "peak", "device")
_UNSTABLE = re.compile(
    r"(^|/)(\.lock|\.claim|stderr\.log|tensorboard/.*|study\.journal|checkpoints/.*/.*/.*)$"
)


@dataclass(frozen=True)
class Task:
    """A command whose output lies in out/. `old` is what is there before: a directory to copy, or nothing.

    `resumes`: it goes on from what it left, so that faults follow one another until one lets it end.
    """

    command: Callable[[Path], list[str]]
    parts: tuple[str, ...]
    old: str | None = None
    resumes: bool = False
    faults: tuple[str, ...] = FAULTS


class Whole(NamedTuple):
    """What an undisturbed run leaves, how long it takes, and how many calls write."""

    new: dict[str, str]
    old: dict[str, str]
    seconds: float
    calls: int


@dataclass
class Bench:
    """Tasks on their material: `tell(task, fault, wrong)` is told of each fault."""

    made: Path
    scratch: Path
    nursery: Nursery
    other: Nursery
    tell: Callable[[str, str, str | None], None]
    wholes: dict[str, Whole] = field(default_factory=dict)

    def whole(self, name: str) -> Whole:
        """The undisturbed run of a task, run twice: the first one compiles."""
        if name not in self.wholes:
            for _ in range(2):
                place = self._place(TASKS[name])
                old = contents(place)
                done = self.nursery.run(TASKS[name].command(place.parent), below=place, limit=LIMIT)
                if done.status != 0:
                    raise SystemExit(f"{name}: not even undisturbed: {done}")
                new = contents(place)
            self.wholes[name] = Whole(new, old, done.seconds, done.calls)
        return self.wholes[name]

    def _place(self, task: Task) -> Path:
        """A fresh directory for its output, beside its material."""
        directory = self.scratch / "task"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for part in task.parts:
            (directory / part).symlink_to(self.made / part)
        if task.old is None:
            (directory / "out").mkdir()
        else:
            shutil.copytree(self.made / task.old, directory / "out")
        return directory / "out"

    def run(self, name: str, seed: int, most: int) -> int:
        """Draw faults, up to `most`, for one output, and judge; returns how many came to pass."""
        task, whole, rng = TASKS[name], self.whole(name), random.Random(f"{name}:{seed}")
        place, count = self._place(task), 0
        for _ in range(min(most, 5) if task.resumes else 1):
            fault = rng.choice(task.faults)
            done = self._fault(task, fault, place, whole, rng)
            if done.status == 0 and fault != "two at once":  # it had ended by then
                # Where nothing can be removed any more, what is hidden stays for the next command to remove.
                different = _different(contents(place, hidden=False), _visible(whole.new))
                wrong = f"{fault}: ended with other content of {different[:6]}" if different else None
                self.tell(name, "ended before" if wrong is None else fault, wrong and f"case {seed}: {wrong}")
                break
            count += 1
            wrong = self._wrong(task, done, fault) or self._state(task, place, whole)
            self.tell(name, fault, wrong and f"case {seed}, {fault}: {wrong}")
            if wrong:
                return count
            if done.status == 0:  # two at once are at the end
                break
        done = self.nursery.run(task.command(place.parent), limit=LIMIT)
        wrong = f"then status {done.status}: {done.err[-300:]}" if done.status != 0 else None
        if wrong is None and (different := _different(contents(place), whole.new)):
            wrong = f"then other content of {different[:6]}"
        if wrong:
            self.tell(name, "afterwards", f"case {seed}, {fault}: {wrong}")
        return count

    def _fault(self, task: Task, fault: str, place: Path, whole: Whole, rng: random.Random) -> Done:
        command = task.command(place.parent)
        if fault in ("moment", "child"):
            child = self.nursery.start(command)
            early = child.wait_or_none(rng.uniform(0, whole.seconds))
            if early is None:
                if fault == "child":
                    child.kill_below()
                else:
                    child.kill(group=rng.random() < 0.5)
                early = child.wait(LIMIT)
            return early
        if fault == "two at once":
            first, second = self.nursery.start(command), self.other.start(command)
            ends = [first.wait(LIMIT), second.wait(LIMIT)]
            return max(ends, key=lambda one: -1 if one.status is None else one.status)
        at = rng.randint(1, whole.calls)
        return self.nursery.run(command, below=place, mode=fault, at=at, limit=LIMIT)

    def _wrong(self, task: Task, done: Done, fault: str) -> str | None:
        """Whether a command ended as it should: killed, or with one line."""
        if done.status is None:
            return "hangs"
        if fault in ("moment", "kill", "torn"):
            return None if done.status == -9 else f"status {done.status}: {done.err[-300:]}"
        if fault == "two at once" and done.status == 0:
            return None
        if fault == "child":
            told = done.status == 1 and "failed here: " in done.out
            return None if told else f"status {done.status}: {done.err[-300:]}"
        lines = [line for line in done.err.splitlines() if not re.match(r"WARNING|W\d{4} ", line)]
        # While it trains, Orbax's threads print tracebacks of their own above the line.
        last = lines[-1:] if task.resumes else lines
        if done.status == 2 and len(last) == 1 and last[0].startswith("error: "):
            return None
        return f"status {done.status}: {' / '.join(lines[-4:])[-500:]}"

    def _state(self, task: Task, place: Path, whole: Whole) -> str | None:
        """Whether what shows is the old or the new; of what resumes, whether a result is the result."""
        found = contents(place, hidden=False)
        if task.resumes:
            results = [key for key in found if key.endswith("result.json")]
            wrong = [key for key in results if found[key] != whole.new.get(key)]
            return f"a {wrong[0]} that is not the run's" if wrong else None
        for one in (whole.old, whole.new):
            if found == _visible(one):
                return None
        return "neither the old nor the new is whole"


def _different(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    return sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))


def _visible(found: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in found.items() if not _is_hidden(key)}


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def contents(directory: Path, *, hidden: bool = True) -> dict[str, str]:
    """Digests of files below a directory by their paths, without what differs from run to run."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        kept = path.is_dir() and path.parent.name == "best"  # the checkpoint of an epoch; its files differ
        if _UNSTABLE.search(name) or (not hidden and _is_hidden(name)) or (path.is_dir() and not kept):
            continue
        found[name] = "there" if kept else _digest(path)
    return found


def _digest(path: Path) -> str:
    data = path.read_bytes()
    if path.name in ("result.json", "metrics.jsonl") and data:
        lines = data.splitlines() if path.name == "metrics.jsonl" else [data]
        try:
            lasting = [_lasting(json.loads(line)) for line in lines]
        except ValueError:  # a line that a kill has torn
            return "torn"
        data = json.dumps(lasting, sort_keys=True, allow_nan=False).encode()
    if path.suffix in (".png", ".svg", ".html", ".md"):
        return "there"
    return hashlib.sha256(data).hexdigest()


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if not any(word in k for word in _PASSING)}
    return [_lasting(one) for one in value] if isinstance(value, list) else value


def _train(at: Path) -> list[str]:
    return ["train", f"--config={at}/tiny.py", f"--workdir={at}/out"]


TASKS = {
    "prepare": Task(lambda at: material.prepare(at / "raw", at / "out/data"), ("raw",), "old_data"),
    "prepare anew": Task(lambda at: material.prepare(at / "raw", at / "out/data"), ("raw",)),
    "score": Task(
        lambda at: ["score", f"--bundle={at}/bundle", f"--input={at}/new.csv", f"--out={at}/out/scored.csv"],
        ("bundle", "new.csv"),
        "old_scores",
    ),
    "export": Task(
        lambda at: ["export", f"--workdir={at}/run", f"--out={at}/out/bundle"], ("run",), "old_bundle"
    ),
    "train": Task(_train, ("tiny.py",), resumes=True),
    "sweep": Task(
        lambda at: ["sweep", f"--config={at}/tiny.py", "--seeds=2", f"--workdir={at}/out"],
        ("tiny.py",),
        resumes=True,
        faults=PARENTS,
    ),
    # One process of four runs, which end after two, three and four epochs.
    "sweep, together": Task(
        lambda at: [
            *("sweep", f"--config={at}/tiny.py", "--config.train.max_epochs=4", "--config.train.patience=1"),
            *("--grid=train.learning_rate=1e-3,3e-2", "--seeds=2", "--together=4", f"--workdir={at}/out"),
        ],
        ("tiny.py",),
        resumes=True,
        faults=PARENTS,
    ),
    "tune": Task(
        lambda at: [
            *("tune", f"--config={at}/tiny.py", f"--space={at}/space.yaml"),
            *("--trials=2", f"--workdir={at}/out"),
        ],
        ("tiny.py", "space.yaml"),
        resumes=True,
    ),
}
