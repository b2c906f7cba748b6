"""The students: networks that map field embeddings [B, F, D] to logits [B], one file per model.

A student is an NNX module `Student(num_fields, embedding_dim, *, ..., rngs)`, called as
`student(embeddings, train=False, key=None)`; `key` seeds its dropout in training. Three things are optional:

- A student with columns of the embedding table to itself says how many: `own_dim` embeddings pooled like
  the shared ones, then `wide_dim` (0 or 1) weights of a linear model over the ids. Its input is
  [B, F, D + own_dim + wide_dim] then.
- A student with a loss of its own returns (logits [B], loss) in training. One that needs the labels for it
  takes `labels` [B] as well, and `sample_weights` [B], or None, if it weighs rows that have weights.
- A student with a method `hidden`, its last hidden state [B, hidden_size], can be fused by "concat" and
  gives or takes hints in ECKD.
"""

from collections.abc import Callable

from flax import nnx

from ektf_jax.students.afn import AFN
from ektf_jax.students.autoint import AutoInt
from ektf_jax.students.cin import CIN
from ektf_jax.students.cl4ctr import CL4CTR
from ektf_jax.students.crossnetv2 import CrossNetV2
from ektf_jax.students.dagfm import DAGFM
from ektf_jax.students.dcn import DCN
from ektf_jax.students.dcnv2 import DCNv2
from ektf_jax.students.deepfm import DeepFM
from ektf_jax.students.ecn import ECN
from ektf_jax.students.edcn import EDCN
from ektf_jax.students.eulernet import EulerNet
from ektf_jax.students.fcn import FCN
from ektf_jax.students.final import FINAL
from ektf_jax.students.finalmlp import FinalMLP
from ektf_jax.students.fm import FM
from ektf_jax.students.lr import LR
from ektf_jax.students.masknet import MaskNet
from ektf_jax.students.mlp import MLP
from ektf_jax.students.pnn import PNN
from ektf_jax.students.qnn import QNN
from ektf_jax.students.wide_deep import WideDeep
from ektf_jax.students.xdeepfm import XDeepFM

__all__ = [
    "AFN",
    "CIN",
    "CL4CTR",
    "DAGFM",
    "DCN",
    "ECN",
    "EDCN",
    "FCN",
    "FINAL",
    "FM",
    "LR",
    "MLP",
    "PNN",
    "QNN",
    "REGISTRY",
    "AutoInt",
    "CrossNetV2",
    "DCNv2",
    "DeepFM",
    "EulerNet",
    "FinalMLP",
    "MaskNet",
    "WideDeep",
    "XDeepFM",
]

# Classes, but to type checkers type[nnx.Module] takes no arguments.
REGISTRY: dict[str, Callable[..., nnx.Module]] = {
    "lr": LR,
    "fm": FM,
    "mlp": MLP,
    "pnn": PNN,
    "wide_deep": WideDeep,
    "deepfm": DeepFM,
    "dcn": DCN,
    "crossnetv2": CrossNetV2,
    "dcnv2": DCNv2,
    "cin": CIN,
    "xdeepfm": XDeepFM,
    "autoint": AutoInt,
    "afn": AFN,
    "edcn": EDCN,
    "masknet": MaskNet,
    "cl4ctr": CL4CTR,
    "eulernet": EulerNet,
    "finalmlp": FinalMLP,
    "final": FINAL,
    "ecn": ECN,
    "fcn": FCN,
    "qnn": QNN,
    "dagfm": DAGFM,
}
