"""Reads a bundle and predicts with it: numpy, polars, safetensors, and either onnxruntime or JAX.

bundle.json           what it is, of which run, its metrics, and the SHA-256 of all other files
weights.safetensors   the weights by name
program.jax           weights, ids int32 [B, S] -> logits float32 [P, B], for cpu, cuda and tpu; any B.
                      Of n dense fields (bundle.json: dense) it takes dense float32 [B, n] after the ids
program.onnx          the same as one ONNX graph that holds its weights (if it was exported)
encoder.json, vocabulary.parquet   what turns raw rows into ids
README.md             a model card
"""

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax import files, metrics
from ektf_jax.data import encoder
from ektf_jax.data.encoder import Encoder
from ektf_jax.errors import InputError

FORMAT, VERSION = "ektf-bundle", 1
DESCRIPTION, WEIGHTS, PROGRAM, ONNX = "bundle.json", "weights.safetensors", "program.jax", "program.onnx"
ENSEMBLE = "ensemble"
# A program is compiled for each number of rows: batches are filled up to one of these.
SIZES = (1, 8, 64, 512, 4096)

_SHAPE = {
    "format": str,
    "version": int,
    "predictor": str,
    "students": int,
    "slots": int,
    "files": dict,
}
_REMEDY = "get the bundle again, or export it again"

# Of ids and, if fields are dense, of their numbers.
Program = Callable[..., NDArray[np.float32]]


@dataclass(frozen=True)
class Bundle:
    """A predictor for raw rows. `about` is what bundle.json says."""

    about: Mapping[str, Any]
    encoder: Encoder
    program: Program

    @property
    def students(self) -> int:
        """K: the students whose predictions come beside the ensemble's; 0 for a bundle of one predictor."""
        return int(self.about["students"])

    def predict(self, rows: pl.DataFrame | Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
        """Click probabilities of raw rows: {"ensemble": [N], "students": [K, N]}.

        `rows` is a frame of polars or pandas, or a dict of columns, with the fields' columns in any order. Of
        a bundle of one student both are its predictions, and K is 1. Unseen values are OOV. Raises InputError
        that names column, row and value for what is missing or cannot be a value.
        """
        found = metrics.probabilities(self.logits(*self.encoder.frame(rows).columns))
        return {"ensemble": found[-1], "students": found[: max(1, len(found) - 1)]}

    def logits(self, ids: NDArray[np.int32], dense: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Logits [P, N] for encoded rows [N, S]: of K students, then of the ensemble; or of one predictor.

        `dense` [N, n] are the numbers of n dense fields.
        """
        columns = [ids] if dense is None else [ids, dense]
        parts = [np.zeros((self.students + 1 if self.students else 1, 0), np.float32)]
        for start in range(0, len(ids), SIZES[-1]):
            batch = [column[start : start + SIZES[-1]] for column in columns]
            rows = len(batch[0])
            # After a whole batch its program is there: no other is compiled for the rest.
            size = SIZES[-1] if start else next(size for size in SIZES if size >= rows)
            filled = (np.pad(column, ((0, size - rows), (0, 0))) for column in batch)
            parts.append(self.program(*filled)[:, :rows])
        return np.concatenate(parts, axis=1)


def load(directory: Path | str, *, runtime: str | None = None) -> Bundle:
    """Read a bundle, after checking each of its files.

    `runtime` is "onnx" or "jax"; by default onnxruntime runs a bundle that has an ONNX program, where it is
    installed, and JAX any other. Raises InputError, naming the file, for a bundle that is of a newer format,
    incomplete or changed, and for a runtime that is not there.
    """
    directory = Path(directory)
    about = describe(directory)
    for name, digest in about["files"].items():
        path = directory / Path(name).name  # a name cannot lead out of the bundle
        if (found := sha256(path)) != digest:
            raise InputError(f"{path}: has the SHA-256 {found}, bundle.json says {digest}; {_REMEDY}")
    return Bundle(about, encoder.read(directory), open_program(directory, runtime, ONNX in about["files"]))


def describe(directory: Path) -> dict[str, Any]:
    """What bundle.json says. Raises InputError where it is none that this program reads."""
    path = directory / DESCRIPTION
    if not path.is_file():
        raise InputError(f"{directory}: is no bundle (it has no {DESCRIPTION}); make one with `ektf export`")
    about = files.read_json(path, {"format": str, "version": int})
    if about["format"] != FORMAT:
        raise InputError(f"{path}: format is {about['format']!r}, not {FORMAT!r}; {_REMEDY}")
    if about["version"] > VERSION:
        raise InputError(
            f"{path}: version is {about['version']}, this program reads {VERSION}; install a newer ektf-jax,"
            " or export the bundle with this one"
        )
    return files.read_json(path, _SHAPE)


def sha256(path: Path) -> str:
    """The digest of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from None


def open_program(directory: Path, runtime: str | None, has_onnx: bool) -> Program:
    """What runs a bundle's program; see `load`."""
    if runtime not in (None, "onnx", "jax"):
        raise InputError(f"runtime is {runtime!r}; it must be onnx or jax")
    if runtime is None:
        runtime = "onnx" if has_onnx and importlib.util.find_spec("onnxruntime") else "jax"
    if runtime == "onnx" and not has_onnx:
        raise InputError(f"{directory}: has no {ONNX}; export it with --onnx, or take the runtime jax")
    return _onnx(directory / ONNX) if runtime == "onnx" else _jax(directory)


def _onnx(path: Path) -> Program:
    try:
        import onnxruntime
    except ImportError:
        raise InputError(f"{path}: needs onnxruntime; `pip install onnxruntime`") from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(*columns: NDArray[Any]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(None, dict(zip(names, columns, strict=True)))[0]
        return logits

    return run


def _jax(directory: Path) -> Program:
    try:
        import flatbuffers  # noqa: F401  # which jax.export needs to read a program
        import jax
        import jax.export
        from safetensors.numpy import load_file
    except ImportError as error:
        raise InputError(
            f"{directory / PROGRAM}: needs {error.name}; `pip install 'ektf-jax[bundle]'`, or export with"
            " --onnx and install onnxruntime"
        ) from None
    exported = jax.export.deserialize(bytearray((directory / PROGRAM).read_bytes()))
    weights = jax.device_put(load_file(directory / WEIGHTS))
    call = jax.jit(exported.call)
    return lambda *columns: np.asarray(call(weights, *columns))
