"""Exports a finished run: `ektf export --workdir=DIR --out=BUNDLE` (docs/serving.md)."""

from absl import flags

from ektf_jax.bundle.export import export
from ektf_jax.cli import shell

_WORKDIR = flags.DEFINE_string("workdir", None, "The working directory of a finished run.", required=True)
_OUT = flags.DEFINE_string("out", None, "The directory to write the bundle to.", required=True)
_PREDICTOR = flags.DEFINE_string(
    "predictor", "ensemble", "ensemble, best (the student with the best validation AUC) or 0 to K-1."
)
_ONNX = flags.DEFINE_bool("onnx", False, "Write an ONNX program, too.")
_DATA = flags.DEFINE_string("data", None, "Where the run's dataset is now, if it was moved.")


def main(argv: list[str]) -> None:
    """Write the bundle and print what it holds."""
    del argv
    out = shell.path(_OUT)
    about = export(
        shell.path(_WORKDIR),
        out,
        predictor=_PREDICTOR.value,
        with_onnx=_ONNX.value,
        data=None if _DATA.value is None else shell.path(_DATA),
    )
    print(f"{out}: {about['predictor']} of {about['dataset']}, {about['params']:,} parameters")
    for name in sorted([*about["files"], "bundle.json"]):
        print(f"{name:<20}{(out / name).stat().st_size:>14,} bytes")
