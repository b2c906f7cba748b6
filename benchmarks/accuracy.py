"""EKTF trained to the end by the peer: a result.json as experiments.train leaves it, for reports beside ours.

    python -m benchmarks.accuracy --peer_python=PYTHON --config=configs/ml1m_ektf_mlp.py --workdir=DIR

The config and its keys are those of experiments.train. The peer (benchmarks/peer.py) trains by FuxiCTR's own
`fit` on the same rows, with its own initialisation, order of rows and dropout for the seed. In the result
`config.implementation` says so, and a report names such runs by it. A finished run is not repeated.
"""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import common
from ektf_jax import transfer
from ektf_jax.cli import config as configs
from ektf_jax.cli import shell
from ektf_jax.config import Config
from ektf_jax.data import encoded
from ektf_jax.data.schema import Schema
from ektf_jax.errors import InputError
from ektf_jax.files import write_json, write_text
from ektf_jax.result import NAME
from ektf_jax.training import record

_CONFIG = configs.define()
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the result goes.", required=True)
_PEER = flags.DEFINE_string("peer_python", None, "An interpreter with torch and fuxictr.", required=True)

IMPLEMENTATION = "FuxiCTR in PyTorch"
AUTHORS = {"teacher": "mean_logit", "stop_gradient": True, "kd": True, "dml": True, "examination": True}


def columns(schema: Schema, split: encoded.Split) -> dict[str, Any]:
    """An array per field as FuxiCTR reads it, with ids from 0, which is padding; and the labels."""
    found = {}
    start = 0
    for field in schema.fields:
        ids = np.asarray(split.ids[:, start : start + field.max_len])
        ids = np.where(ids == 0, 0, ids - field.offset)
        found[field.name] = ids if field.max_len > 1 else ids[:, 0]
        start += field.max_len
    return found | {"label": np.asarray(split.labels)}


def check(config: Config) -> None:
    """Raise InputError for a method that is not the peer's."""
    options = {"name": "ektf"} | AUTHORS
    settings = {"name": config.transfer.name} | dict(transfer.options_in_full(config.transfer))
    if any(settings.get(key) != value for key, value in options.items()):
        raise InputError(f"the peer is EKTF as its authors trained it: config.transfer as {options}")


def train(config: Config, python: str) -> dict[str, Any]:
    """What the peer finds with a config."""
    data = Path(config.data.path)
    schema, splits = encoded.open_dataset(data)
    with tempfile.TemporaryDirectory() as directory:
        files = {split: str(Path(directory) / f"{split}.npz") for split in schema.splits}
        for split, path in files.items():
            np.savez(path, **columns(schema, splits[split]))
        epochs, seed = config.train.max_epochs, config.seed
        found = common.peer(
            config.to_dict(), schema, python, task="fit", files=files, epochs=epochs, seed=seed
        )
    return {
        "config": config.to_dict(),
        **{key: found[key] for key in ("params", "best_epoch", "epochs", "valid", "test", "curve")},
        "train_samples_per_second": found["epochs"] * schema.splits["train"] / found["seconds"],
        "wall_seconds": found["seconds"],
        "seed": seed,
        "dataset": {
            "name": schema.dataset,
            "features": schema.num_features,
            "rows": schema.splits,
            "source": schema.source,
            "arrays": schema.arrays,
        },
        "device": "cpu",
        "versions": found["versions"],
    }


def main(argv: list[str]) -> None:
    """Train and write the files, result.json last."""
    del argv
    workdir = Path(_WORKDIR.value)
    path = workdir / NAME
    config = dataclasses.replace(configs.read_run(_CONFIG), implementation=IMPLEMENTATION)
    if path.exists():
        record.check_run(workdir, config)
        print(f"{path} is there")
        return
    check(config)
    with record.exclusive(workdir):
        result = train(config, _PEER.value)
        lines = [
            json.dumps({"epoch": epoch, "valid": {"ensemble": {"auc": auc}}}, allow_nan=False) + "\n"
            for epoch, auc in enumerate(result.pop("curve"), start=1)
        ]
        write_text(workdir / "metrics.jsonl", "".join(lines))
        write_json(path, result)
    print(json.dumps(result["test"]))


if __name__ == "__main__":
    shell.run(main)
