"""A training step of a model as its authors or FuxiCTR's model zoo write it in PyTorch.

Reads one JSON object, a line of stdin, and prints one. It needs torch and what FuxiCTR needs, a checkout of
reczoo/FuxiCTR on the path (its zoo is in no package), and one of salmon1802/EKTF; of this repository nothing,
so that any interpreter can run it. A step is FuxiCTR's `train_step`: zero_grad, forward, loss with the
embedding's L2, backward, clipping, Adam.

    {"model": "autoint", "options": {...}, "fields": [[name, vocabulary, slots], ...], "dim": 16, "l2": 0.01,
     "batch_size": 4096, "learning_rate": 0.001, "clip_norm": 10, "steps": 7,
     "checkouts": {"fuxictr": DIR, ...}}

`options` are all arguments of our student; `ORIGINALS` says what the original calls them. What it lacks is
left out: that both have as many parameters says whether they are one model.
"""

import importlib.util
import inspect
import json
import sys
import time
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.models import BaseModel
from torch import nn


class Original(NamedTuple):
    """A file of the zoo, or a module of authors that is given embeddings, and what it calls our options."""

    file: str
    names: dict[str, str]
    constants: dict[str, Any]
    checkout: str = "fuxictr"


_TOWER = {"dropout": "net_dropout"}
_DNN = {"hidden_units": "dnn_hidden_units", "dropout": "net_dropout"}
_EKTF = "src/Backbone.py"

ORIGINALS = {
    "lr": Original("model_zoo/LR/src/LR.py", {}, {}),
    "fm": Original("model_zoo/FM/src/FM.py", {}, {}),
    "mlp": Original("model_zoo/DNN/DNN_torch/src/DNN.py", _TOWER, {}),
    "pnn": Original("model_zoo/PNN/src/PNN.py", _TOWER, {}),
    "wide_deep": Original("model_zoo/WideDeep/WideDeep_torch/src/WideDeep.py", _TOWER, {}),
    "deepfm": Original("model_zoo/DeepFM/DeepFM_torch/src/DeepFM.py", _TOWER, {}),
    "dcn": Original("model_zoo/DCN/DCN_torch/src/DCN.py", _DNN, {}),
    "crossnetv2": Original("model_zoo/DCNv2/src/DCNv2.py", {}, {"model_structure": "crossnet_only"}),
    "dcnv2": Original(
        "model_zoo/DCNv2/src/DCNv2.py",
        {"hidden_units": "parallel_dnn_hidden_units", "dropout": "net_dropout"},
        {"model_structure": "parallel"},
    ),
    "xdeepfm": Original("model_zoo/xDeepFM/src/xDeepFM.py", _DNN, {}),
    "autoint": Original("model_zoo/AutoInt/src/AutoInt.py", _DNN, {"use_wide": True}),
    "afn": Original(
        "model_zoo/AFN/src/AFN.py",
        {"hidden_units": "dnn_hidden_units", "dropout": "dnn_dropout"},
        {"ensemble_dnn": True},
    ),
    "edcn": Original("model_zoo/EDCN/src/EDCN.py", _TOWER, {}),
    "masknet": Original(
        "model_zoo/MaskNet/src/MaskNet.py",
        {
            **_DNN,
            "num_blocks": "parallel_num_blocks",
            "block_dim": "parallel_block_dim",
            "embedding_layer_norm": "emb_layernorm",
            "layer_norm": "net_layernorm",
        },
        {"model_type": "SerialMaskNet"},
    ),
    "eulernet": Original(
        "model_zoo/EulerNet/src/EulerNet.py",
        {"explicit_dropout": "net_ex_dropout", "implicit_dropout": "net_im_dropout"},
        {},
    ),
    "finalmlp": Original(
        "model_zoo/FinalMLP/src/FinalMLP.py",
        {
            "hidden_units": "mlp1_hidden_units",
            "hidden_units2": "mlp2_hidden_units",
            "dropout": "mlp1_dropout",
            "dropout2": "mlp2_dropout",
            "batch_norm": "mlp1_batch_norm",
            "batch_norm2": "mlp2_batch_norm",
            "feature_gates": "use_fs",
            "gate_hidden_units": "fs_hidden_units",
        },
        {},
    ),
    "final2b": Original(
        "model_zoo/FinalNet/src/FinalNet.py",
        {
            "hidden_units": "block1_hidden_units",
            "hidden_units2": "block2_hidden_units",
            "dropout": "block1_dropout",
        },
        {"block_type": "2B", "use_feature_gating": True},
    ),
    "cin": Original(f"{_EKTF}:CompressedInteractionNet", {}, {}, "ektf"),
    "ecn": Original(f"{_EKTF}:ExponentialCrossNetwork", _TOWER, {}, "ektf"),
    "final1b": Original(f"{_EKTF}:FinalNet", {"dropout": "dropout_rates"}, {}, "ektf"),
}


class Alone(BaseModel):
    """A module that is given embeddings, over FuxiCTR's embedding layer."""

    def __init__(self, fields: FeatureMap, net: nn.Module, flat: bool, **options: Any):
        super().__init__(fields, model_id="alone", gpu=-1, **options)
        self.embedding_layer = FeatureEmbedding(fields, fields.default_emb_dim)
        self.net, self.flat = net, flat
        self.compile(options["optimizer"], options["loss"], options["learning_rate"])
        self.reset_parameters()

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the probabilities, as FuxiCTR's models do."""
        embeddings = self.embedding_layer(self.get_inputs(inputs))
        found = self.net(embeddings.flatten(1) if self.flat else embeddings)
        return {"y_pred": self.output_activation(found.reshape(-1, 1))}


def feature_map(task: dict[str, Any]) -> FeatureMap:
    """FuxiCTR's description of the fields, of as many features as ours."""
    fields = FeatureMap("benchmark", data_dir="")
    fields.features = OrderedDict()
    for name, vocabulary, slots in task["fields"]:
        told = {"type": "categorical", "source": "", "vocab_size": vocabulary, "padding_idx": 0}
        if slots > 1:
            told |= {
                "type": "sequence",
                "max_len": slots,
                "feature_encoder": "layers.MaskedAveragePooling()",
            }
        fields.features[name] = told
    fields.labels = ["label"]
    fields.num_fields = len(fields.features)
    fields.total_features = sum(told["vocab_size"] for told in fields.features.values())
    fields.default_emb_dim = task["dim"]
    fields.set_column_index()
    return fields


def make(task: dict[str, Any]) -> nn.Module:
    """The original with our options under its names."""
    original, fields = ORIGINALS[task["model"]], feature_map(task)
    file, _, name = original.file.partition(":")
    module = load(Path(task["checkouts"][original.checkout], file))
    made = getattr(module, name or Path(file).stem)
    known = inspect.signature(made.__init__).parameters
    renamed = {original.names.get(key, key): value for key, value in task["options"].items()}
    options = {key: value for key, value in renamed.items() if key in known} | original.constants
    l2 = "embedding_regularizer" if "embedding_regularizer" in known else "regularizer"
    common = {
        "task": "binary_classification",
        "optimizer": "adam",
        "loss": "binary_crossentropy",
        "metrics": ["AUC"],
        "verbose": 0,
        "model_root": "",
        "learning_rate": task["learning_rate"],
        l2: task["l2"],
    }
    if not name:
        sizes = {} if task["dim"] == 0 else {"embedding_dim": task["dim"]}
        return made(fields, **common, **sizes, **options)
    flat = len(fields.features) * task["dim"]
    shape = {"num_fields": len(fields.features), "input_dim": 2 * flat if name == "FinalNet" else flat}
    net = made(**{key: value for key, value in shape.items() if key in known}, **options)
    return Alone(fields, net, name == "ExponentialCrossNetwork", **common)


def load(file: Path) -> ModuleType:
    """The module in a file that is in no package on the path."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batch(task: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Random rows, as FuxiCTR's loader hands them over."""
    rng, count = np.random.default_rng(0), task["batch_size"]
    rows = {
        name: torch.from_numpy(rng.integers(1, vocabulary, count if slots == 1 else (count, slots)))
        for name, vocabulary, slots in task["fields"]
    }
    return rows | {"label": torch.from_numpy(rng.integers(0, 2, count).astype(np.float32))}


def main() -> None:
    """Time the steps, after two that are not timed."""
    task = json.loads(sys.stdin.readline())
    torch.manual_seed(0)
    model, rows = make(task), batch(task)
    model._max_gradient_norm = task["clip_norm"]  # as its `fit` does
    model.train()
    seconds = []
    for _ in range(2 + task["steps"]):
        began = time.perf_counter()
        model.train_step(rows)
        seconds.append(time.perf_counter() - began)
    print(
        json.dumps(
            {
                "seconds": seconds[2:],
                "params": sum(p.numel() for p in model.parameters() if p.requires_grad),
                "threads": torch.get_num_threads(),
                "versions": {
                    "torch": torch.__version__,
                    "fuxictr": sys.modules["fuxictr"].__version__,
                },
            }
        )
    )


if __name__ == "__main__":
    main()
