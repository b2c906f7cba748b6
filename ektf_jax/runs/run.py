"""Finished runs by their working directories: their models, and single students."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flax import nnx
from numpy.typing import NDArray

from ektf_jax import metrics
from ektf_jax.blend import Predictor
from ektf_jax.config import Config
from ektf_jax.data import encoded
from ektf_jax.data.schema import Schema
from ektf_jax.ensemble import Ensemble
from ektf_jax.errors import InputError, unknown
from ektf_jax.result import Result
from ektf_jax.training import rundata, teachers
from ektf_jax.training.evaluate import predict_split, prediction_of
from ektf_jax.training.record import check_data
from ektf_jax.training.step import Predict
from ektf_jax.training.vectors import rows_read

if TYPE_CHECKING:  # only raw rows need them, and a sweep has none
    import polars as pl

    from ektf_jax.data.encoder import Encoder


class Run:
    """A finished run. Reads only what is asked for, and writes nothing.

    run = load_run("runs/ektf")
    prediction = run.model()(ids)           # a Prediction: students [K, B], ensemble [B]
    prediction = run.student(run.best)(ids)  # of that student alone: students [1, B], ensemble [B]
    probabilities = run.predict(rows)       # of raw rows: {"ensemble": [N], "students": [K, N]}
    """

    def __init__(self, workdir: Path, data: Path | None = None):
        self.workdir = workdir
        self.result = Result.read(workdir)
        self._data = data

    @property
    def config(self) -> Config:
        return self.result.config

    @property
    def best(self) -> int:
        """The student with the best AUC on validation data."""
        return self.result.best_student

    @property
    def data(self) -> Path:
        """Where the run's dataset is or, if it is gone, what the run keeps of it."""
        found = self._data or rundata.where(self.config, self.workdir)
        return found if self._data or found.exists() else rundata.kept(self.workdir)

    @property
    def _description(self) -> Path:
        """Where its dataset is described: what the run keeps first, as a newer one may be where it was."""
        kept = rundata.kept(self.workdir)
        return kept if self._data is None and kept.exists() else self.rows

    @property
    def rows(self) -> Path:
        """Where the run's dataset is with its rows; InputError, which says what to do, where it is gone."""
        return rundata.with_rows(self.config, self.workdir, self._data)

    @property
    def has_splits(self) -> bool:
        """Whether it can predict its own splits: its weights are there, and the whole of its dataset."""
        data = self._data or rundata.where(self.config, self.workdir)
        return (self.workdir / "checkpoints").is_dir() and data.is_dir()

    @cached_property
    def schema(self) -> Schema:
        """Of the dataset that the run was trained on; InputError where it is another one now, or gone."""
        schema = encoded.open_schema(self._description)
        check_data(self.workdir, schema, self._description)
        return schema

    @cached_property
    def encoder(self) -> "Encoder":
        """What turns raw rows into ids; InputError for a dataset that was made as ids."""
        from ektf_jax.data import encoder

        self.schema  # noqa: B018  # that it is the run's
        return encoder.of_dataset(self._description)

    def model(self) -> Predictor:
        """Return the ensemble with the weights of the best epoch.

        Raises InputError where they are gone, damaged, or not those of the model that the config makes now.
        """
        return teachers.predictor(self.workdir, self.schema)[0]

    def student(self, k: int) -> Ensemble:
        """Return student k of the ensemble as an ensemble of one, with what it reads of the table.

        Raises InputError for a k that no student has.
        """
        try:
            return self.model().student(k)
        except IndexError as error:
            raise InputError(f"{self.workdir}: {error}") from None

    def predict(self, rows: "pl.DataFrame | Mapping[str, Any]") -> dict[str, NDArray[np.float64]]:
        """Return click probabilities of raw rows: {"ensemble": [N], "students": [K, N]}.

        `rows` is a frame of polars or pandas, or a dict of columns, with the fields' columns in any order.
        It needs no label. Unseen values are OOV. Raises InputError, naming column, row and value, for what is
        missing or cannot be a value.
        """
        found = metrics.probabilities(self.logits(*self.encoder.frame(rows).columns))
        return {"ensemble": found[-1], "students": found[:-1]}

    @property
    def students(self) -> int:
        """K; 0 where the students have no predictions of their own (fusion "concat")."""
        return len(self.result.valid["students"])

    def logits(self, ids: NDArray[np.int32], dense: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return logits [K + 1, N] of encoded rows [N, S]: of the students, then of the ensemble.

        `dense` [N, n] are the numbers of n dense fields.
        """
        predict, weights = self._predict
        split = encoded.Split(ids, np.zeros(len(ids), np.float32), dense=dense)
        # Few rows need no whole batch; powers of two are few programs.
        enough = 1 << max(0, len(ids) - 1).bit_length()
        return predict_split(predict, *weights, split, min(enough, self.config.data.batch_size))

    def embeddings(self, field: str, student: int = 0) -> "pl.DataFrame":
        """Return what a student reads for each known value of a field: columns value, vector (D floats).

        Where students share their table it is the same for all. Raises InputError for a field or a student
        that there is not.
        """
        import polars as pl

        names = [one.name for one in self.schema.fields]
        if field not in names:
            raise unknown("field", field, names)
        try:
            alone = self._model.student(student)
        except IndexError as error:
            raise InputError(f"{self.workdir}: {error}") from None
        (read,) = alone.read_columns()
        words = self.encoder.known[names.index(field)]
        table = rows_read(alone.embedding)
        vectors = table[words["id"].to_numpy()][:, read]
        return pl.DataFrame([words["value"], pl.Series("vector", vectors.tolist(), pl.List(pl.Float32))])

    @cached_property
    def _predict(self) -> tuple[Predict, tuple[nnx.State, nnx.State]]:
        return prediction_of(self._model, self.config.ensemble.matmul_dtype)

    @cached_property
    def _model(self) -> Predictor:
        return self.model()


def load_run(workdir: str | Path, data: str | Path | None = None) -> Run:
    """Open a finished run. `data` is where its dataset is now, if it was moved.

    Raises InputError where `workdir` has no result, or one that is damaged or of a newer version.
    """
    return Run(Path(workdir), None if data is None else Path(data))
