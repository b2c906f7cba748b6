"""What the benchmarks share: the shapes they run, the machine they run on, child processes, result files."""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from configs import ektf_latest, ektf_mlp, published, table2
from ektf_jax.cli.start import KEEP_FREED_MEMORY
from ektf_jax.data import encoded
from ektf_jax.data.loader import Batch
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.files import write_json
from ektf_jax.training.versions import versions as versions

T = TypeVar("T")

RESULTS = Path("results/benchmarks")
LOAD_BEFORE = os.getloadavg()[0]  # of what else was running when a benchmark started

# Vocabulary (with padding and out-of-vocabulary) of every field, as published; Genres has 5 slots.
_ML1M = {
    "UserID": 6042,
    "Gender": 4,
    "Age": 9,
    "Occupation": 23,
    "MovieID": 3643,
    "Release": 10,
    "Genres": 20,
}
_CRITEO_COUNTS = (44, 99, 122, 41, 220, 112, 80, 69, 92, 6, 27, 37, 72)
_CRITEO_CATEGORIES = (
    *(1446, 554, 157339, 117822, 306, 18, 11882, 630, 5, 39530, 5131, 156656, 3176),
    *(28, 11043, 148913, 12, 4560, 2003, 5, 154564, 18, 17, 53031, 82, 40955),
)
_CRITEO = {f"I{i}": size for i, size in enumerate(_CRITEO_COUNTS, start=1)} | {
    f"C{i}": size for i, size in enumerate(_CRITEO_CATEGORIES, start=1)
}
_KDD12 = {
    **{"Depth": 4, "Position": 4, "Impression": 91, "DisplayURL": 22592, "AdID": 280098},
    **{"AdvertiserID": 14417, "QueryID": 997506, "KeywordID": 358327, "TitleID": 762416},
    **{"DescriptionID": 614456, "UserID": 1618171, "Gender": 5, "Age": 9},
}
_VOCABULARIES = {"ml1m": _ML1M, "criteo": _CRITEO, "kdd12": _KDD12}

# A path of this machine in a command line, which says nothing elsewhere.
_PLACE = re.compile(r"=/.*")

# In an epoch's line of experiments.train: its rate.
_RATE = re.compile(r"valid AUC .* ([\d,]+) samples/s")

# What can be trained: EKTF over K MLPs on the published schema and settings of a dataset; ml1m_latest is
# EKTF_Latest (PNN, FINAL(1B), ECN).
SHAPES = ("ml1m", "criteo", "kdd12", "ml1m_latest")
# A model of Table 2 alone.
MODELS = tuple(published.MODELS)
MODEL_SHAPES = tuple(f"ml1m_{model}" for model in MODELS)


def config(
    shape: str, num_students: int, changes: Mapping[str, Any] = MappingProxyType({}), *, small: bool = False
) -> dict[str, Any]:
    """The config of a shape, as experiments.train reads it, with changes by dotted keys.

    A small one has layers and batches of next to nothing.
    """
    dataset, _, model = shape.partition("_")
    if model in MODELS:
        settings = table2.get_config(f"{dataset},{model}")
    else:
        settings = (ektf_latest if model else ektf_mlp).get_config(dataset)
    settings.ensemble.num_students = num_students
    if small:
        settings.data.batch_size = 64
        for student in settings.ensemble.students.values():
            if "hidden_units" in student:
                student.hidden_units = (16, 8)
        if dataset == "criteo":
            settings.embedding.dim = 2  # of 910,747 features
    settings.update_from_flattened_dict(dict(changes))
    return settings.to_dict()


def split_case(case: str) -> tuple[str, int]:
    """SHAPE:K as a pair."""
    shape, _, students = case.partition(":")
    return shape, int(students)


def schema(shape: str, rows: int = 1, held_out: int = 1) -> Schema:
    """The published schema of a shape, with `rows` rows to train on and `held_out` in valid and in test."""
    dataset = shape.partition("_")[0]
    entries = [(name, size, 5 if name == "Genres" else 1) for name, size in _VOCABULARIES[dataset].items()]
    return Schema(dataset, make_fields(entries), {"train": rows, "valid": held_out, "test": held_out}, {})


def random_rows(schema: Schema, rows: int, seed: int = 0) -> Batch:
    """Rows of uniform values: the most distinct features a batch can have."""
    rng = np.random.default_rng(seed)
    slots = [field for field in schema.fields for _ in range(field.max_len)]
    columns = [rng.integers(field.offset + 1, field.oov + 1, rows, dtype=np.int32) for field in slots]
    return Batch(np.stack(columns, axis=1), rng.integers(0, 2, rows).astype(np.float32))


@contextmanager
def random_dataset(schema: Schema) -> Iterator[Path]:
    """An encoded dataset of random rows, as long as it is needed."""
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        splits: dict[str, Any] = {name: random_rows(schema, rows) for name, rows in schema.splits.items()}
        encoded.write(data, schema, splits, None)
        yield data


def timed(run: Callable[[], T]) -> tuple[float, T]:
    """Seconds of a call, and what it returns."""
    started = time.perf_counter()
    found = run()
    return time.perf_counter() - started, found


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Median, smallest and largest."""
    ordered = {"median": np.median(values), "min": min(values), "max": max(values)}
    return {name: round(float(value), digits) for name, value in ordered.items()} | {"count": len(values)}


def machine() -> dict[str, Any]:
    """The processor, its cores and memory, and how busy it was."""
    model = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
        named = {key.strip(): value.strip() for key, value in facts.items()}
        model = (
            f"{named.get('model name', model)} (family {named.get('cpu family')}, model {named.get('model')})"
        )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_before": round(LOAD_BEFORE, 1),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def child(command: Sequence[str], *, python: str = sys.executable, **options: Any) -> str:
    """What `python command...` prints; its errors stay visible. Options are those of `subprocess.run`."""
    finished = subprocess.run(
        [python, *command], check=True, stdout=subprocess.PIPE, encoding="utf-8", **options
    )
    return finished.stdout


def child_json(command: Sequence[str], *, python: str = sys.executable, **options: Any) -> Any:
    """The last line that `python command...` prints, as JSON."""
    return json.loads(child(command, python=python, **options).splitlines()[-1])


def our_steps(
    shape: str, num_students: int, steps: int, flags: Sequence[str] = (), **options: Any
) -> dict[str, Any]:
    """What benchmarks.step prints: `seconds` of each of some training steps, and more."""
    command = ["-m", "benchmarks.step", f"--shape={shape}", f"--students={num_students}"]
    return child_json([*command, f"--steps={steps}", *flags], **options)


def our_epochs(shape: str, num_students: int, data: Path, epochs: int) -> dict[str, Any]:
    """`seconds` of each of some epochs after one to compile; `input_wait`, the share spent waiting for rows.

    Both as experiments.train reports them, without its evaluations; the share is of all epochs.
    """
    dataset, _, latest = shape.partition("_")
    rows = encoded.open_schema(data).splits["train"]
    with tempfile.TemporaryDirectory() as workdir:
        printed = child(
            [
                *("-m", "experiments.train", f"--workdir={workdir}"),
                f"--config=configs/{'ektf_latest' if latest else 'ektf_mlp'}.py:{dataset}",
                f"--config.data.path={data}",
                f"--config.ensemble.num_students={num_students}",
                f"--config.train.max_epochs={1 + epochs}",
                f"--config.train.patience={1 + epochs}",
            ]
        )
        input_wait = json.loads((Path(workdir) / "result.json").read_text(encoding="utf-8"))["input_wait"]
    rates = [float(rate.replace(",", "")) for rate in _RATE.findall(printed)]
    if len(rates) != 1 + epochs:
        raise SystemExit(f"experiments.train printed {len(rates)} epochs, not {1 + epochs}:\n{printed}")
    return {"seconds": [rows / rate for rate in rates[1:]], "input_wait": input_wait}


def peer_task(settings: dict[str, Any], schema: Schema, **task: Any) -> dict[str, Any]:
    """What benchmarks/peer.py reads: a config and a schema in its words, and what to do."""
    ensemble, train = settings["ensemble"], settings["train"]
    labels = list(ensemble["students"])
    description = {
        "fields": [(field.name, field.vocab_size, field.max_len) for field in schema.fields],
        # Each kind's copies one after another, as in ours.
        "students": [
            ensemble["students"][label]
            for turn, label in enumerate(labels)
            for _ in range(turn, ensemble["num_students"], len(labels))
        ],
        "dim": settings["embedding"]["dim"],
        "l2": settings["embedding"]["l2"],
        "batch_size": settings["data"]["batch_size"],
        "learning_rate": train["learning_rate"],
        "clip_norm": train["clip_norm"],
    }
    return description | task


def peer(
    settings: dict[str, Any], schema: Schema, python: str, *, keep_freed_memory: bool = False, **task: Any
) -> dict[str, Any]:
    """Run benchmarks/peer.py, in an interpreter that may know nothing of ours, on a config and a schema.

    `keep_freed_memory` gives it the allocator's settings that ours has.
    """
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    if keep_freed_memory:
        environment["GLIBC_TUNABLES"] = KEEP_FREED_MEMORY
    text = json.dumps(peer_task(settings, schema, **task))
    return child_json(["benchmarks/peer.py"], python=python, input=text, env=environment)


def read(name: str) -> dict[str, Any]:
    """What results/benchmarks/NAME.json has, {} where there is none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(name: str, content: Mapping[str, Any]) -> None:
    """Write results/benchmarks/NAME.json: the machine, the command line, and `content`."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    told = (_PLACE.sub("=DIR", argument) for argument in sys.argv[1:] if "python=" not in argument)
    command = " ".join([f"python -m benchmarks.{name}", *told])
    document = {"benchmark": name, "command": command, "machine": machine(), **content}
    write_json(RESULTS / f"{name}.json", document)
