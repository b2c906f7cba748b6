r"""Numbers of the PyTorch originals at a tiny shape, for the students to be compared with.

    python tests/students/make_fixtures.py --fuxictr=CHECKOUT --fuxictr1=CHECKOUT --ektf=CHECKOUT \
        --cl4ctr=CHECKOUT --fcn=CHECKOUT --qnn=CHECKOUT --out=tests/students/fixtures

needs PyTorch and fuxictr 2.3, and checkouts of reczoo/FuxiCTR (its model zoo is in no package), of its tag
v1.2.2, of salmon1802/EKTF, cl4ctr/cl4ctr, salmon1802/FCN and salmon1802/QNN. It writes one .npz per case, and
that of QNN-alpha's loss. The module itself imports without PyTorch.

A case is either a whole FuxiCTR model, from ids to a logit, or a module that is given embeddings: one of
EKTF's or CL4CTR's authors, or a model of FuxiCTR 1.2.2 without its embedding layer. All weights are random,
in double precision but with values that single precision can hold, and nothing is dropped out.
"""

import argparse
import importlib.util
import sys
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

ROWS, DIM = 8, 4
VOCABULARY = {"user": 7, "gender": 4, "item": 9, "genres": 6}  # sizes, with padding, which is id 0
MAX_GENRES = 3
FIELDS = len(VOCABULARY)
COLUMNS: dict = {"user": 0, "gender": 1, "item": 2, "genres": slice(3, 3 + MAX_GENRES)}  # of the ids


@dataclass(frozen=True)
class Checkouts:
    """Where the originals are."""

    fuxictr: Path
    fuxictr1: Path
    ektf: Path
    cl4ctr: Path
    fcn: Path
    qnn: Path


Make = Callable[[Checkouts], "nn.Module"]
Extra = Callable[["nn.Module", Any], dict[str, "Tensor"]]


@dataclass(frozen=True)
class Case:
    """A student and the model it must agree with.

    `takes` is what the model is called with, "ids" or "embeddings". `extra(model, x)`, called in training
    mode, gives more to be recorded; of its "train_loss", gradients are recorded too. A model with
    `predicts=False` has no logits of its own. To save space, gradients are not recorded for parameters
    whose names start with one of `without_gradients`.
    """

    name: str
    student: str
    student_options: dict[str, Any]
    make: Make = field(repr=False)
    takes: str = "ids"
    extra: Extra | None = field(default=None, repr=False)
    predicts: bool = True
    without_gradients: tuple[str, ...] = field(default=(), repr=False)


def reference(case: Case, checkouts: Checkouts) -> dict[str, np.ndarray]:
    """Everything recorded of a case.

    weights/NAME  parameters and running statistics, under PyTorch's names
    count         how many trainable numbers there are
    ids [B, 6]    user, gender, item and up to three genres; or embeddings [B, F, D]
    eval_logits   [B] in evaluation mode
    train_logits  [B] in training mode, that is with the batch's own statistics
    after/NAME    the running statistics after that
    cotangent     [B]
    grad/NAME     gradients of sum(train_logits * cotangent), for every parameter and for "embeddings"
    labels [B]    if the model's own addition to the loss needs them
    train_loss    that addition, if it has one
    lossgrad/NAME gradients of that
    """
    import torch

    model = case.make(checkouts).double()
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    fill(model, rng)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    record = {f"weights/{name}": value for name, value in state.items() if value.is_floating_point()}
    record["count"] = torch.tensor(sum(p.numel() for p in parameters.values()))

    record[case.takes], x = ids(rng) if case.takes == "ids" else embeddings(rng)
    variables = {n: p for n, p in parameters.items() if not n.startswith(case.without_gradients)}
    if case.takes == "embeddings":
        variables["embeddings"] = x
    if case.predicts:
        model.eval()
        record["eval_logits"] = logits(model, x)
        model.train()
        record["train_logits"] = logits(model, x)
        record |= {
            f"after/{name}": buffer.clone()
            for name, buffer in model.named_buffers()
            if buffer.is_floating_point()
        }
        record["cotangent"] = torch.from_numpy(single(rng.standard_normal(ROWS)))
        total = (record["train_logits"] * record["cotangent"]).sum()
        record |= gradients("grad", total, variables)
    if case.extra:
        model.load_state_dict(state)
        model.train()
        extra = case.extra(model, x)
        record |= extra | gradients("lossgrad", extra["train_loss"], variables)

    arrays = {name: value.detach().numpy() for name, value in record.items()}
    assert all(np.isfinite(array).all() for array in arrays.values()), case.name
    return arrays


def fill(model: "nn.Module", rng: np.random.Generator) -> None:
    """Draw every parameter, in the order of named_parameters(), then every running statistic."""
    import torch
    from torch import nn

    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.requires_grad:
                    continue
                values = rng.standard_normal(tuple(parameter.shape))
                if isinstance(module, nn.Embedding):
                    values *= 0.5
                    values[0] = 0  # padding
                elif isinstance(module, nn.BatchNorm1d | nn.LayerNorm):
                    values = 0.2 * values + (name == "weight")
                else:
                    values *= 0.3
                parameter.copy_(torch.from_numpy(single(values)))
        for name, buffer in model.named_buffers():
            shape = tuple(buffer.shape)
            if name.endswith("running_mean"):
                buffer.copy_(torch.from_numpy(single(0.2 * rng.standard_normal(shape))))
            elif name.endswith("running_var"):
                buffer.copy_(torch.from_numpy(single(rng.uniform(0.5, 1.5, shape))))


def single(values: np.ndarray) -> np.ndarray:
    """Double precision, but only values that single precision can hold."""
    return values.astype(np.float32).astype(np.float64)


def ids(rng: np.random.Generator) -> tuple["Tensor", dict[str, "Tensor"]]:
    """Random ids [B, 6], and the same as FuxiCTR's models take them. Genres come first, padding after."""
    import torch

    rows = np.zeros((ROWS, FIELDS - 1 + MAX_GENRES), np.int32)
    for name, size in VOCABULARY.items():
        column = rows[:, COLUMNS[name]]
        column[...] = rng.integers(1, size, column.shape)
    filled = rng.integers(1, MAX_GENRES + 1, (ROWS, 1))
    rows[:, COLUMNS["genres"]] *= np.arange(MAX_GENRES) < filled
    tensor = torch.from_numpy(rows)
    return tensor, {name: tensor[:, column] for name, column in COLUMNS.items()}


def embeddings(rng: np.random.Generator) -> tuple["Tensor", "Tensor"]:
    """Random embeddings [B, F, D], and the same with a gradient."""
    import torch

    tensor = torch.from_numpy(single(rng.standard_normal((ROWS, FIELDS, DIM))))
    return tensor, tensor.clone().requires_grad_()


def logits(model: "nn.Module", x: Any) -> "Tensor":
    """[B]; FuxiCTR's models, which answer with a dict, must have been made without their sigmoid."""
    output = model(x)
    return (output["y_pred"] if isinstance(output, dict) else output).reshape(ROWS)


def gradients(prefix: str, total: "Tensor", variables: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    """PREFIX/NAME of every variable; zero where `total` does not depend on it."""
    import torch

    values = torch.autograd.grad(
        total, list(variables.values()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return {f"{prefix}/{name}": value for name, value in zip(variables, values, strict=True)}


def fuxictr(file: str, **options: Any) -> Make:
    """A model of FuxiCTR's zoo, named as its file is; as a "regression" it ends in no sigmoid."""

    def make(checkouts: Checkouts) -> "nn.Module":
        zoo = load(checkouts.fuxictr / "model_zoo" / file)
        return getattr(zoo, Path(file).stem)(
            feature_map(),
            task="regression",
            embedding_dim=DIM,
            optimizer="adam",
            loss="binary_crossentropy",
            metrics=[],
            verbose=0,
            model_root="",
            **options,
        )

    return make


def feature_map() -> Any:
    """FuxiCTR's description of the fields."""
    from fuxictr.features import FeatureMap

    fields = FeatureMap("tiny", data_dir="")
    fields.features = OrderedDict(
        (name, {"type": "categorical", "source": "", "vocab_size": size, "padding_idx": 0})
        for name, size in VOCABULARY.items()
    )
    fields.features["genres"] |= {
        "type": "sequence",
        "max_len": MAX_GENRES,
        "feature_encoder": "layers.MaskedAveragePooling()",
    }
    fields.labels = ["label"]
    fields.num_fields = FIELDS
    fields.total_features = sum(VOCABULARY.values())
    fields.default_emb_dim = DIM
    fields.set_column_index()  # and input_length
    return fields


def fuxictr1(name: str, **options: Any) -> Make:
    """A model of FuxiCTR 1.2.2 that is given embeddings; as a "regression" it ends in no sigmoid."""

    def make(checkouts: Checkouts) -> "nn.Module":
        from torch import nn

        newer = {key: sys.modules.pop(key) for key in list(sys.modules) if key.partition(".")[0] == "fuxictr"}
        sys.path.insert(0, str(checkouts.fuxictr1))
        try:
            model_class = getattr(importlib.import_module("fuxictr.pytorch.models"), name)
        finally:
            sys.path.remove(str(checkouts.fuxictr1))
            for key in [key for key in sys.modules if key.partition(".")[0] == "fuxictr"]:
                del sys.modules[key]
            sys.modules.update(newer)
        model = model_class(
            SimpleNamespace(dataset_id="tiny", num_fields=FIELDS, feature_specs={}),
            task="regression",
            embedding_dim=DIM,
            optimizer="adam",
            loss="binary_crossentropy",
            metrics=[],
            verbose=0,
            model_root="",
            **options,
        )
        model.embedding_layer = nn.Identity()
        model.inputs_to_device = lambda embeddings: (embeddings, None)  # it looks columns up
        return model

    return make


def authors(name: str, **options: Any) -> Make:
    """A module of EKTF's authors."""

    def make(checkouts: Checkouts) -> "nn.Module":
        return getattr(load(checkouts.ektf / "src" / "Backbone.py"), name)(**options)

    return make


def cl4ctr(checkouts: Checkouts) -> "nn.Module":
    """The FM of CL4CTR's authors, given embeddings, without dropout, and less what is then of no use."""
    from torch import nn

    if "long" not in vars(np):  # in NumPy 1.24 to 1.26
        vars(np)["long"] = int
    sys.path.insert(0, str(checkouts.cl4ctr))
    try:
        from model.FM import FM_CL4CTR
    finally:
        sys.path.remove(str(checkouts.cl4ctr))
    model = FM_CL4CTR(list(VOCABULARY.values()), DIM, batch_size=ROWS, pratio=0.0)
    model.embedding = nn.Identity()
    del model.lr  # looks ids up
    del model.encoder_layer  # only copies of it are used
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


def cl4ctr_losses(model: "nn.Module", x: "Tensor") -> dict[str, "Tensor"]:
    """The FM's logits, and CL4CTR's loss: once with each sample's fields kept together, once as published.

    As published, the encoder's output [F, B, D] is split into rows as if it were [B, F, D].
    """
    import torch

    encoded = model.fi_cl(x.transpose(0, 1)).transpose(0, 1).flatten(1)
    contrastive = (model.projector1(encoded) - model.projector2(encoded)).square().sum(dim=1).mean()
    with torch.no_grad():  # its gradient is an error in recent PyTorch
        published = model.compute_cl_loss(x, alpha=1.0, beta=0.01)
    return {
        "fm_logits": model.fm(x).reshape(ROWS),
        "align_loss": model.compute_alignment_loss(x),
        "uniform_loss": model.compute_uniformity_loss(x),
        "contrastive_loss": contrastive,
        "train_loss": contrastive + model.compute_cl_loss(x, alpha=0.0, beta=0.01),
        "train_loss_as_published": published,
    }


def fcn(heads: int) -> Make:
    """The DCNv3 of FCN's authors; their embedding dimension is that of one head."""

    def make(checkouts: Checkouts) -> "nn.Module":
        fields = feature_map()
        fields.default_emb_dim = DIM // heads
        return load(checkouts.fcn / "src" / "DCNv3.py").DCNv3(
            fields,
            task="regression",
            embedding_dim=DIM // heads,
            num_heads=heads,
            num_deep_cross_layers=2,
            num_shallow_cross_layers=1,
            deep_net_dropout=0,
            shallow_net_dropout=0,
            batch_norm=True,
            optimizer="adam",
            loss="binary_crossentropy",
            metrics=[],
            verbose=0,
            model_root="",
        )

    return make


def fcn_loss(model: "nn.Module", x: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    """What Tri-BCE adds to the cross-entropy of the prediction; soft labels, so that both terms count."""
    import torch

    linear, model.output_activation = model.output_activation, torch.nn.Sigmoid()
    outputs = model(x)
    labels = torch.linspace(0, 1, ROWS, dtype=torch.float64)
    model.get_labels = lambda inputs: labels[:, None]
    torch.set_default_dtype(torch.float64)  # of its zeros, which would round the weights
    loss = model.add_loss(x)[0] - model.loss_fn(outputs["y_pred"], labels[:, None])
    torch.set_default_dtype(torch.float32)
    model.output_activation = linear
    return {"labels": labels, "train_loss": loss}


def qnn(checkout: str, file: str, **options: Any) -> Make:
    """The network of QNN-alpha, given embeddings; its passes and its loss are in `self_transfer`."""

    def make(checkouts: Checkouts) -> "nn.Module":
        from torch import nn

        network = load(getattr(checkouts, checkout) / file).QuadraticNeuralNetworks
        return nn.Sequential(
            nn.Flatten(), network(FLAT, FIELDS, num_layers=2, num_heads=2, net_dropout=0, **options)
        )

    return make


def self_transfer(checkouts: Checkouts) -> dict[str, np.ndarray]:
    """QNN-alpha's loss of the logits [2, B] of two passes, and its gradients."""
    import torch
    from torch.nn import functional

    model = load(checkouts.fuxictr / "model_zoo/QNN/src/QNN_alpha.py").QNN_alpha
    rng = np.random.default_rng(0)
    passes = torch.from_numpy(single(3 * rng.standard_normal((2, ROWS)))).requires_grad_()
    labels = torch.from_numpy(rng.integers(0, 2, ROWS).astype(np.float64))
    made = SimpleNamespace(
        forward=lambda inputs: {f"y_pred{i + 1}": torch.sigmoid(inputs[i]) for i in range(2)},
        get_labels=lambda inputs: labels,
        loss_fn=functional.binary_cross_entropy,
    )
    loss = model.add_loss(made, passes)
    (gradient,) = torch.autograd.grad(loss, passes)
    record = {"logits": passes, "labels": labels, "loss": loss, "grad": gradient}
    return {name: value.detach().numpy() for name, value in record.items()}


def finalnet_loss(model: "nn.Module", x: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    """What FinalNet adds to the cross-entropy when it has two blocks."""
    import torch

    linear, model.output_activation = model.output_activation, torch.nn.Sigmoid()
    outputs = model(x)
    labels = torch.zeros_like(outputs["y_pred"])  # any would do
    loss = model.add_loss(outputs, labels) - model.loss_fn(outputs["y_pred"], labels)
    model.output_activation = linear
    return {"train_loss": loss}


def load(file: Path) -> ModuleType:
    """The module in a file that is in no package on the path."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DNN = {"hidden_units": (6, 5)}
ATTENTION = {"attention_layers": 2, "num_heads": 2, "attention_dim": 6}
AFN = {"logarithmic_neurons": 3, "afn_hidden_units": (5,), **DNN}
FCN = {"num_deep_layers": 2, "num_shallow_layers": 1}
IDS = {"wide": "ids"}
FLAT = FIELDS * DIM

CASES = [
    Case("lr_ids", "lr", IDS, fuxictr("LR/src/LR.py")),
    Case("lr", "lr", {}, authors("LogisticRegression", input_dim=FLAT), "embeddings"),
    Case("fm_ids", "fm", IDS, fuxictr("FM/src/FM.py")),
    Case(
        "mlp",
        "mlp",
        {**DNN, "batch_norm": True},
        fuxictr("DNN/DNN_torch/src/DNN.py", hidden_units=[6, 5], batch_norm=True),
    ),
    Case("pnn", "pnn", DNN, fuxictr("PNN/src/PNN.py", hidden_units=[6, 5], batch_norm=True)),
    Case(
        "pnn_authors",
        "pnn",
        DNN,
        authors(
            "ProductNetwork",
            num_fields=FIELDS,
            embedding_dim=DIM,
            hidden_units=[6, 5],
            batch_norm=True,
            net_dropout=0,
        ),
        "embeddings",
    ),
    Case(
        "wide_deep_ids",
        "wide_deep",
        {**IDS, **DNN},
        fuxictr("WideDeep/WideDeep_torch/src/WideDeep.py", hidden_units=[6, 5], batch_norm=True),
    ),
    Case(
        "wide_deep",
        "wide_deep",
        DNN,
        authors("WideDeep", input_dim=FLAT, hidden_units=[6, 5], batch_norm=True),
        "embeddings",
    ),
    Case(
        "deepfm_ids",
        "deepfm",
        {**IDS, **DNN},
        fuxictr("DeepFM/DeepFM_torch/src/DeepFM.py", hidden_units=[6, 5], batch_norm=True),
    ),
    Case(
        "dcn",
        "dcn",
        {"num_cross_layers": 2, **DNN},
        fuxictr("DCN/DCN_torch/src/DCN.py", num_cross_layers=2, dnn_hidden_units=[6, 5], batch_norm=True),
    ),
    Case(
        "crossnetv2",
        "crossnetv2",
        {"num_cross_layers": 2},
        fuxictr("DCNv2/src/DCNv2.py", model_structure="crossnet_only", num_cross_layers=2),
    ),
    Case(
        "dcnv2",
        "dcnv2",
        {"num_cross_layers": 2, **DNN},
        fuxictr(
            "DCNv2/src/DCNv2.py",
            model_structure="parallel",
            num_cross_layers=2,
            parallel_dnn_hidden_units=[6, 5],
            batch_norm=True,
        ),
    ),
    Case(
        "dcnv2_authors",
        "dcnv2",
        {"num_cross_layers": 2, **DNN},
        authors("DCNv2", input_dim=FLAT, num_cross_layers=2, dnn_hidden_units=[6, 5], batch_norm=True),
        "embeddings",
    ),
    Case(
        "cin",
        "cin",
        {"cin_hidden_units": (3, 4)},
        authors("CompressedInteractionNet", num_fields=FIELDS, cin_hidden_units=[3, 4]),
        "embeddings",
    ),
    Case(
        "xdeepfm_ids",
        "xdeepfm",
        {**IDS, "cin_hidden_units": (3, 4), **DNN},
        fuxictr("xDeepFM/src/xDeepFM.py", cin_hidden_units=[3, 4], dnn_hidden_units=[6, 5], batch_norm=True),
    ),
    Case(
        "xdeepfm",
        "xdeepfm",
        {"cin_hidden_units": (3, 4), **DNN},
        authors(
            "xDeepFM",
            input_dim=FLAT,
            num_fields=FIELDS,
            cin_hidden_units=[3, 4],
            dnn_hidden_units=[6, 5],
            batch_norm=True,
        ),
        "embeddings",
    ),
    Case(
        "autoint",
        "autoint",
        {**ATTENTION, **DNN},
        fuxictr("AutoInt/src/AutoInt.py", **ATTENTION, dnn_hidden_units=[6, 5], batch_norm=True),
    ),
    Case(
        "autoint_authors",
        "autoint",
        {**ATTENTION, **DNN, "use_scale": True},
        authors(
            "AutoInt",
            input_dim=FLAT,
            embedding_dim=DIM,
            num_fields=FIELDS,
            **ATTENTION,
            dnn_hidden_units=[6, 5],
            batch_norm=True,
            use_scale=True,
        ),
        "embeddings",
    ),
    Case(
        "autoint_layer_norm",
        "autoint",
        {**ATTENTION, **DNN, "layer_norm": True},
        fuxictr(
            "AutoInt/src/AutoInt.py", **ATTENTION, dnn_hidden_units=[6, 5], batch_norm=True, layer_norm=True
        ),
    ),
    Case(
        "afn_own",
        "afn",
        {"dnn_embedding": "own", **AFN},
        fuxictr(
            "AFN/src/AFN.py",
            ensemble_dnn=True,
            logarithmic_neurons=3,
            afn_hidden_units=[5],
            dnn_hidden_units=[6, 5],
            batch_norm=True,
        ),
    ),
    Case(
        "afn",
        "afn",
        AFN,
        authors(
            "AFN",
            embedding_dim=DIM,
            num_fields=FIELDS,
            logarithmic_neurons=3,
            afn_hidden_units=[5],
            dnn_hidden_units=[6, 5],
            batch_norm=True,
        ),
        "embeddings",
    ),
    Case(
        "edcn",
        "edcn",
        {"num_cross_layers": 2},
        fuxictr("EDCN/src/EDCN.py", num_cross_layers=2, batch_norm=True),
    ),
    Case(
        "edcn_plain",
        "edcn",
        {"num_cross_layers": 2, "batch_norm": False, "temperature": 0.5, "bridge": "pointwise_addition"},
        fuxictr("EDCN/src/EDCN.py", num_cross_layers=2, temperature=0.5, bridge_type="pointwise_addition"),
    ),
    Case(
        "edcn_residual",
        "edcn",
        {"num_cross_layers": 2, "residual": True, "temperature": 0.5},
        fuxictr1("EDCN", num_cross_layers=2, use_regulation_module=True, temperature=0.5, batch_norm=True),
        "embeddings",
    ),
    Case(
        "edcn_residual_without_gates",
        "edcn",
        {"num_cross_layers": 2, "residual": True, "regulation": False},
        fuxictr1("EDCN", num_cross_layers=2, batch_norm=True),
        "embeddings",
    ),
    Case(
        "masknet_parallel",
        "masknet",
        {"variant": "parallel", **DNN, "num_blocks": 2, "block_dim": 5, "reduction_ratio": 0.5},
        fuxictr(
            "MaskNet/src/MaskNet.py",
            model_type="ParallelMaskNet",
            dnn_hidden_units=[6, 5],
            parallel_num_blocks=2,
            parallel_block_dim=5,
            reduction_ratio=0.5,
        ),
    ),
    Case(
        "masknet_serial",
        "masknet",
        {"variant": "serial", **DNN, "reduction_ratio": 0.5},
        fuxictr(
            "MaskNet/src/MaskNet.py",
            model_type="SerialMaskNet",
            dnn_hidden_units=[6, 5],
            reduction_ratio=0.5,
        ),
    ),
    Case(
        "cl4ctr",
        "cl4ctr",
        {"base": "fm"},
        cl4ctr,
        "embeddings",
        cl4ctr_losses,
        predicts=False,
        without_gradients=("fi_cl.",),
    ),
    Case("eulernet", "eulernet", {"shape": (4, 3)}, fuxictr("EulerNet/src/EulerNet.py", shape=[4, 3])),
    Case(
        "eulernet_layer_norm",
        "eulernet",
        {"shape": (3,), "layer_norm": True},
        fuxictr("EulerNet/src/EulerNet.py", shape=[3], layer_norm=True),
    ),
    Case(
        "finalmlp",
        "finalmlp",
        {
            "hidden_units": (6, 4),
            "hidden_units2": (4,),
            "gate_hidden_units": (5,),
            "num_heads": 2,
            "batch_norm": True,
        },
        fuxictr(
            "FinalMLP/src/FinalMLP.py",
            mlp1_hidden_units=[6, 4],
            mlp1_batch_norm=True,
            mlp2_hidden_units=[4],
            mlp2_batch_norm=True,
            fs_hidden_units=[5],
            num_heads=2,
        ),
    ),
    Case(
        "final_1b",
        "final",
        {"hidden_units": (6, 4)},
        authors("FinalNet", num_fields=FIELDS, input_dim=2 * FLAT, hidden_units=[6, 4], dropout_rates=0),
        "embeddings",
    ),
    Case(
        "final_1b_fuxictr",
        "final",
        {"hidden_units": (6, 4), "activation": "none"},
        fuxictr(
            "FinalNet/src/FinalNet.py",
            block_type="1B",
            use_feature_gating=True,
            block1_hidden_units=[6, 4],
        ),
    ),
    Case(
        "final_2b",
        "final",
        {"blocks": 2, "hidden_units": (6, 4), "hidden_units2": (4,), "activation": "none"},
        fuxictr(
            "FinalNet/src/FinalNet.py",
            block_type="2B",
            use_feature_gating=True,
            block1_hidden_units=[6, 4],
            block2_hidden_units=[4],
        ),
        extra=finalnet_loss,
    ),
    Case(
        "ecn",
        "ecn",
        {"num_cross_layers": 2},
        authors("ExponentialCrossNetwork", input_dim=FLAT, num_cross_layers=2, net_dropout=0),
        "embeddings",
    ),
    Case("fcn", "fcn", FCN, fcn(heads=1), extra=fcn_loss),
    Case("fcn_two_heads", "fcn", {**FCN, "num_heads": 2}, fcn(heads=2), extra=fcn_loss),
    Case(
        "qnn",
        "qnn",
        {"num_layers": 2, "num_heads": 2, "num_rows": 3},
        qnn("fuxictr", "model_zoo/QNN/src/QNN_alpha.py", num_row=3, batch_norm=True),
        "embeddings",
    ),
    Case(
        "qnn_authors",
        "qnn",
        {"num_layers": 2, "num_heads": 2, "num_rows": 2, "batch_norm": False},
        qnn("qnn", "src/QNN_T26.py", num_row=2),
        "embeddings",
    ),
]


def main() -> None:
    """Write every case's numbers."""
    parser = argparse.ArgumentParser(description="Records the PyTorch originals at a tiny shape.")
    names = ("fuxictr", "fuxictr1", "ektf", "cl4ctr", "fcn", "qnn")
    for name in (*names, "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    checkouts = Checkouts(*(getattr(arguments, name) for name in names))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        arrays = reference(case, checkouts)
        file = arguments.out / f"{case.name}.npz"
        np.savez_compressed(file, **arrays)
        print(f"{case.name:20} {arrays['count']:6d} parameters {file.stat().st_size:7d} bytes")
    np.savez_compressed(arguments.out / "self_transfer.npz", **self_transfer(checkouts))


if __name__ == "__main__":
    main()
