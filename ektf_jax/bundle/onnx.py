"""The same predictor as an ONNX graph, by jax2onnx."""

from pathlib import Path

import jax
from flax import nnx

from ektf_jax.blend import Predictor
from ektf_jax.errors import InputError


def write(model: Predictor, with_students: bool, slots: int, path: Path) -> None:
    """Write ids int32 [B, S] -> logits [P, B], with the weights in it. Raises InputError without jax2onnx.

    Copies of a student are written out one by one: ONNX has no scan over them.
    """
    try:
        import jax2onnx
    except ImportError:
        raise InputError(
            "--onnx needs jax2onnx, which wants older packages than training does; docs/serving.md says how"
            " it is installed"
        ) from None
    unrolled = nnx.merge(*nnx.split(model), copy=True)
    for group in unrolled.groups:
        group.stack = "unrolled"

    def program(ids: jax.Array) -> jax.Array:
        prediction = unrolled(ids)
        if not with_students:
            return prediction.ensemble[None]
        return jax.numpy.concatenate([prediction.students, prediction.ensemble[None]])

    ids = jax.ShapeDtypeStruct(("rows", slots), jax.numpy.int32)
    jax2onnx.to_onnx(program, [ids], return_mode="file", output_path=str(path))
