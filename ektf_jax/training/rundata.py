"""The dataset of a run: where it is, and whether a config can be trained on it."""

import inspect
import shutil
from pathlib import Path

from ektf_jax import directories, metrics, transfer
from ektf_jax.config import Config
from ektf_jax.data import encoded, synthetic
from ektf_jax.data.schema import Schema
from ektf_jax.errors import InputError
from ektf_jax.training import build


def dataset(config: Config, workdir: Path) -> Path:
    """The encoded dataset of a run: config.data.path, or one generated into the working directory."""
    data = where(config, workdir)
    if not config.data.path and not data.exists():
        synthetic.prepare(build.make_synthetic_spec(config), data)
    return data


def where(config: Config, workdir: Path) -> Path:
    """Where a run's encoded dataset is, or will be once it is generated."""
    return Path(config.data.path or workdir / "data")


def with_rows(config: Config, workdir: Path, data: Path | None = None) -> Path:
    """Where a finished run's dataset is with its rows: `data` if it was moved, else where the run had it.

    InputError where the latter is not there; `data` is for its reader to check.
    """
    if data is not None:
        return data
    found = where(config, workdir)
    if not found.is_dir():
        raise InputError(
            f"{found}: no such directory, and {workdir} has its dataset there; say by --data where it is now"
        )
    return found


def kept(workdir: Path) -> Path:
    """Where a run keeps what its dataset says of itself: schema.json and the vocabulary, without the rows."""
    return workdir / "encoder"


def keep(workdir: Path, data: Path) -> None:
    """Keep a dataset's description in a run, so that it can predict raw rows when the dataset is gone."""
    if kept(workdir).exists() or not has_words(data):
        return
    with directories.replacing(kept(workdir), "encoder", lambda _: True, flag="--workdir") as new:
        copy_description(data, new)


def has_words(data: Path) -> bool:
    """Whether a dataset says which values its ids are of."""
    return (data / encoded.WORDS).is_file()


def copy_description(data: Path, new: Path) -> None:
    """Write what a dataset says of itself into a directory that nobody reads yet."""
    shutil.copyfile(data / encoded.SCHEMA, new / encoded.SCHEMA)
    try:
        (new / encoded.WORDS).hardlink_to(data / encoded.WORDS)  # a sweep's runs share it
    except OSError:  # on another file system, or one that has no links
        shutil.copyfile(data / encoded.WORDS, new / encoded.WORDS)


def opened(config: Config, data: Path) -> tuple[Schema, dict[str, encoded.Split]]:
    """Schema and splits of an encoded dataset that this config can be trained on."""
    schema, splits = encoded.open_dataset(data)
    if splits["train"].weights is not None:
        _check_takes_weights(config, data)
        metrics.check(metrics.of_runs(), ["weights"])
    check_batch_size(config, data, len(splits["train"].labels))
    for name in ("valid", "test"):
        check_classes(data, name, splits[name])
    return schema, splits


def _check_takes_weights(config: Config, data: Path) -> None:
    """Raise InputError for a method of one's own whose loss takes no weights: rows would count alike."""
    method = transfer.read(config.transfer)
    if "sample_weights" not in inspect.signature(type(method).__call__).parameters:
        raise InputError(
            f"config.transfer.name = {config.transfer.name!r} takes no sample_weights, but {data} has row"
            " weights; give its __call__ that argument (docs/methods.md), or prepare the dataset without"
        )


def check_classes(data: Path, name: str, split: encoded.Split) -> None:
    labels = split.labels if split.weights is None else split.labels[split.weights > 0]
    if labels.min() == labels.max():
        of = "" if split.weights is None else " of rows with a weight above 0"
        raise InputError(
            f"{data / name}: all labels{of} are {labels[0]:g}, so AUC is undefined; prepare more rows"
        )


def check_batch_size(config: Config, data: Path | str, rows: int) -> None:
    batch_size = config.data.batch_size
    key = f"config.data.batch_size = {batch_size}"
    if batch_size > rows:
        raise InputError(f"{key} is larger than the training split of {data} ({rows} rows)")
    if rows % batch_size == 1:
        raise InputError(
            f"{key} leaves one row of the training split of {data} ({rows} rows) for the last batch, which"
            " BatchNorm cannot normalise; choose another"
        )
