"""Finished runs by their working directories: their models, and single students."""

from functools import cached_property
from pathlib import Path

from ektf_jax.config import Config
from ektf_jax.data import encoded
from ektf_jax.data.schema import Schema
from ektf_jax.ensemble import Ensemble
from ektf_jax.errors import InputError
from ektf_jax.result import Result
from ektf_jax.training import rundata, teachers
from ektf_jax.training.record import check_data


class Run:
    """A finished run. Reads only what is asked for, and writes nothing.

    run = load_run("runs/ektf")
    prediction = run.model()(ids)           # a Prediction: students [K, B], ensemble [B]
    prediction = run.student(run.best)(ids)  # of that student alone: students [1, B], ensemble [B]
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

    @cached_property
    def schema(self) -> Schema:
        """Of the dataset that the run was trained on; InputError where it is another one now, or gone."""
        data = self._data or rundata.where(self.config, self.workdir)
        schema = encoded.open_schema(data)
        check_data(self.workdir, schema, data)
        return schema

    def model(self) -> Ensemble:
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


def load_run(workdir: str | Path, data: str | Path | None = None) -> Run:
    """Open a finished run. `data` is where its dataset is now, if it was moved."""
    return Run(Path(workdir), None if data is None else Path(data))
