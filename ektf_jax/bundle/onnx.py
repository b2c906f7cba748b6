"""The same predictor as an ONNX graph, by jax2onnx."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from ektf_jax.blend import Predictor
from ektf_jax.errors import InputError
from ektf_jax.layers.blocks import HiddenLayers
from ektf_jax.layers.target_attention import ActivationUnits

INPUTS, OUTPUT = ("ids", "dense"), "logits"
_MOST_BYTES = 2**31 - 1  # of a protobuf message, which an ONNX file is


def prepared(model: Predictor) -> Predictor:
    """A copy as ONNX wants it: copies of students, and of attention's units, are written out one by one.

    There is no scan over them, and no layer of several kernels. BatchNorm after a linear layer is in its
    weights: XLA fuses the two, onnxruntime runs one operator after another.
    """
    copy: Predictor = nnx.merge(*nnx.split(model), copy=True)
    for group in copy.groups:
        group.stack = "unrolled"
    for _, module in nnx.iter_graph(copy):
        if isinstance(module, ActivationUnits):
            module.unrolled = True
        if isinstance(module, HiddenLayers):
            module.fold_norms()
    return copy


def write(program: Callable[..., jax.Array], slots: int, path: Path, *, dense: int = 0) -> None:
    """Write ids int32 [B, S] -> logits [P, B] for any B, with all weights in the one file.

    With n `dense` fields it takes their numbers, float32 [B, n], as a second input.
    Raises InputError without jax2onnx, and where the weights are more than an ONNX file can hold.
    """
    try:
        import jax2onnx
    except ImportError:
        raise InputError(
            "--onnx needs jax2onnx: `pip install 'ektf-jax[onnx]'` in an environment of its own; see"
            " docs/serving.md"
        ) from None
    columns = [jax.ShapeDtypeStruct(("rows", slots), jnp.int32)]
    columns += [jax.ShapeDtypeStruct(("rows", dense), jnp.float32)] if dense else []
    with _quietly():
        graph = jax2onnx.to_onnx(
            program,
            columns,
            model_name="predictor",
            input_names=list(INPUTS[: len(columns)]),
            output_names=[OUTPUT],
        )
    if (size := graph.ByteSize()) > _MOST_BYTES:
        raise InputError(
            f"the ONNX program has {size:,} bytes, more than the 2 GiB of its format; export without --onnx"
        )
    path.write_bytes(graph.SerializeToString(deterministic=True))


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what jax2onnx says of its own passes; that the graph is right is checked afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
