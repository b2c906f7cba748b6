"""Published settings: six datasets, and on each of them every model of Tables 2 and 4, FCN and QNN-alpha.

Sources, the first that has the setting:

1. The run logs of the EKTF authors (github.com/salmon1802/EKTF) and, for ECN, FCN and QNN-alpha, of their
   authors, who are the same (github.com/salmon1802/FCN, earlier DCNv3, and github.com/salmon1802/QNN, QNN_T26
   there): EKTF, PNN, FINAL(1B), ECN, MLP, FCN, QNN-alpha, and what belongs to a dataset. The best run by AUC
   on the test data, which is how they chose.
2. BARS (github.com/reczoo/BARS, ranking/ctr): the best run on criteo_x4_001, kkbox_x1 and frappe_x1. The
   paper's Table 2 agrees with those runs in every cell that both have. For MovieLens-1M its nearest dataset,
   movielenslatest_x1, gives a model's own settings; the tower (hidden units, dropout, BatchNorm) and what
   belongs to the dataset are the authors'. For EDCN on Criteo it is criteo_x1.
3. The model's default, which is its reference implementation's.

Nothing here was tuned but one thing: with its defaults (over FM, alpha = 1) CL4CTR's contrastive loss drowns
the cross-entropy on MovieLens-1M, a validation AUC of 0.648 after two epochs; over DeepFM with alpha = 0.01,
the only other setting that was tried, it has 0.870 after one.
"""

from typing import Any

Options = dict[str, Any]

# What belongs to a dataset, from the authors' runs: training, and the tower of their students.
DATASETS: dict[str, Options] = {
    "criteo": {"batch_size": 10_000, "dim": 16, "l2": 1e-5, "hidden_units": (400, 400, 400), "dropout": 0.1},
    "ml1m": {"batch_size": 4096, "dim": 16, "l2": 0.01, "hidden_units": (400, 400, 400), "dropout": 0.1},
    "kdd12": {"batch_size": 10_000, "dim": 16, "l2": 1e-5, "hidden_units": (400, 400, 400), "dropout": 0.0},
    "ipinyou": {"batch_size": 4096, "dim": 16, "l2": 1e-3, "hidden_units": (400, 400, 400), "dropout": 0.1},
    "kkbox": {"batch_size": 10_000, "dim": 128, "l2": 5e-4, "hidden_units": (1000,) * 3, "dropout": 0.1},
    # No dataset of the paper: the tower, dimension and L2 of BARS's DNN.
    "frappe": {"batch_size": 4096, "dim": 10, "l2": 0.05, "hidden_units": (400, 400, 400), "dropout": 0.2},
}

# Models with the tower of their dataset: arguments that the others do not take.
_TOWER = ("hidden_units", "dropout", "batch_norm")
_TOWERS = ("mlp", "pnn", "wide_deep", "deepfm", "dcn", "dcnv2", "xdeepfm", "autoint", "afn", "final1b")
_DEEP = (1000,) * 5
_BARS_CRITEO = {"hidden_units": _DEEP, "dropout": 0.2, "batch_norm": False}
_BARS_KKBOX = {"hidden_units": (5000, 5000), "dropout": 0.3, "batch_norm": False}

# Per model: the student, its settings on every dataset, and those on one. `_alone` are the settings of a
# model that stands alone, as in Table 2; `_l2`, `_dim`, `_batch_size` and `_self` (`transfer.self`) belong to
# the run.
MODELS: dict[str, Options] = {
    "lr": {
        "name": "lr",
        "_alone": {"wide": "ids", "_dim": 0},
        "criteo": {"_l2": 1e-7},
        "ml1m": {"_l2": 5e-6},
        "kkbox": {"_l2": 1e-7},
    },
    "fm": {"name": "fm", "_alone": {"wide": "ids"}, "ml1m": {"_l2": 5e-6}, "kkbox": {"_l2": 1e-5}},
    "mlp": {
        "name": "mlp",
        "criteo": _BARS_CRITEO,
        "kkbox": {"hidden_units": (1000,) * 4, "dropout": 0.2, "batch_norm": False},
    },
    "pnn": {
        "name": "pnn",
        "criteo": {"hidden_units": (1000, 1000), "dropout": 0.2, "batch_norm": False},
        "kkbox": {"hidden_units": (2000, 2000), "dropout": 0.2, "batch_norm": False, "_l2": 1e-3},
    },
    "wide_deep": {
        "name": "wide_deep",
        "_alone": {"wide": "ids"},
        "criteo": _BARS_CRITEO,
        "kkbox": {"hidden_units": (1000,) * 3, "dropout": 0.3, "batch_norm": False, "_l2": 1e-4},
    },
    "deepfm": {"name": "deepfm", "_alone": {"wide": "ids"}, "criteo": _BARS_CRITEO, "kkbox": _BARS_KKBOX},
    "dcn": {
        "name": "dcn",
        "num_cross_layers": 4,
        "criteo": _BARS_CRITEO,
        "kkbox": {**_BARS_KKBOX, "dropout": 0.4},
    },
    "crossnetv2": {"name": "crossnetv2", "ml1m": {"num_cross_layers": 8}},
    "dcnv2": {
        "name": "dcnv2",
        "num_cross_layers": 3,
        "criteo": {"hidden_units": _DEEP},
        "ml1m": {"num_cross_layers": 5},
    },
    "cin": {
        "name": "cin",
        "criteo": {"cin_hidden_units": (64,) * 4},
        "ml1m": {"cin_hidden_units": (32,) * 4},
        "kkbox": {"cin_hidden_units": (78, 78), "_l2": 1e-5, "_batch_size": 5000},
    },
    "xdeepfm": {
        "name": "xdeepfm",
        "_alone": {"wide": "ids"},
        "cin_hidden_units": (64, 64, 64),
        "criteo": {**_BARS_CRITEO, "_l2": 1e-4},
        "kkbox": {**_BARS_KKBOX, "cin_hidden_units": (16, 16)},
    },
    "autoint": {
        "name": "autoint",
        "_alone": {"wide": "ids"},
        "criteo": {**_BARS_CRITEO, "dropout": 0.0, "attention_layers": 5, "attention_dim": 64},
        "ml1m": {"num_heads": 4, "attention_dim": 128, "use_scale": True, "layer_norm": True},
        "kkbox": {**_BARS_KKBOX, "attention_layers": 4, "attention_dim": 256, "use_residual": False},
    },
    "afn": {
        "name": "afn",
        "_alone": {"dnn_embedding": "own"},
        "criteo": {
            "logarithmic_neurons": 1200,
            "afn_hidden_units": (1000,) * 4,
            "afn_dropout": 0.2,
            "hidden_units": _DEEP,
            "dropout": 0.0,
        },
        "ml1m": {"logarithmic_neurons": 800, "afn_hidden_units": (200,), "afn_dropout": 0.4},
        "kkbox": {
            "logarithmic_neurons": 1500,
            "afn_hidden_units": (1000,) * 3,
            "afn_dropout": 0.0,
            "dropout": 0.2,
        },
    },
    # BARS has it on four datasets, all by FuxiCTR 1.2.2, three cross layers but for movielenslatest_x1: its
    # gates' temperature is 20 on criteo_x1 and 5 on frappe_x1; avazu_x1 and movielenslatest_x1 have no gates.
    "edcn": {
        "name": "edcn",
        "residual": True,
        "criteo": {"temperature": 20.0},
        "ml1m": {"num_cross_layers": 2, "regulation": False},
    },
    "masknet": {
        "name": "masknet",
        "criteo": {
            "variant": "parallel",
            "hidden_units": _DEEP,
            "num_blocks": 2,
            "block_dim": 500,
            "reduction_ratio": 0.1,
            "dropout": 0.3,
            "embedding_layer_norm": False,
            "layer_norm": False,
        },
        "ml1m": {"variant": "serial", "reduction_ratio": 4.0, "dropout": 0.5, "embedding_layer_norm": False},
    },
    "cl4ctr": {"name": "cl4ctr", "_alone": {"wide": "ids"}, "ml1m": {"base": "deepfm", "alpha": 0.01}},
    "eulernet": {"name": "eulernet", "shape": (20,), "layer_norm": True},
    "finalmlp": {
        "name": "finalmlp",
        "criteo": {
            "hidden_units": _DEEP,
            "hidden_units2": (500,),
            "dropout": 0.2,
            "dropout2": 0.1,
            "batch_norm": False,
            "batch_norm2": False,
            "feature_gates": False,
            "num_heads": 50,
        },
        "ml1m": {
            "hidden_units": (400,),
            "hidden_units2": (800,),
            "dropout": 0.4,
            "dropout2": 0.2,
            "gate_hidden_units": (800,),
            "num_heads": 10,
        },
    },
    "final1b": {"name": "final", "gate_init": "xavier"},
    "final2b": {
        "name": "final",
        "blocks": 2,
        "criteo": {
            "hidden_units": (1000,) * 3,
            "hidden_units2": (512,),
            "dropout": 0.4,
            "_batch_size": 8192,
        },
        "ml1m": {"hidden_units": (400, 400), "hidden_units2": (500,), "dropout": 0.0},
    },
    "ecn": {
        "name": "ecn",
        "criteo": {"num_cross_layers": 4, "batch_norm": False, "_batch_size": 4096},
        "ml1m": {"num_cross_layers": 2, "dropout": 0.2},
        "kdd12": {"num_cross_layers": 6, "dropout": 0.0},
        "ipinyou": {"dropout": 0.2},
        "kkbox": {"dropout": 0.2},
    },
    "fcn": {
        "name": "fcn",
        "criteo": {"shallow_dropout": 0.2, "batch_norm": False, "_batch_size": 4096},
        "ml1m": {"num_deep_layers": 3, "num_shallow_layers": 4},
        "kdd12": {"num_deep_layers": 4, "deep_dropout": 0.0, "shallow_dropout": 0.0, "_l2": 1e-7},
        "ipinyou": {
            "num_deep_layers": 4,
            "num_shallow_layers": 3,
            "deep_dropout": 0.2,
            "shallow_dropout": 0.2,
        },
        "kkbox": {"num_deep_layers": 5, "num_shallow_layers": 5, "shallow_dropout": 0.3},
    },
    "qnn": {
        "name": "qnn",
        "_self": 2,
        "criteo": {"num_layers": 4, "num_rows": 5, "batch_norm": False},
        "ml1m": {"num_layers": 1, "num_heads": 4, "num_rows": 4},
        "ipinyou": {"num_layers": 4, "num_heads": 4},
        "kkbox": {"num_heads": 2, "num_rows": 3},
    },
}

# Frappe: BARS, and for QNN-alpha its authors. What the student cannot be told: the gates of BARS's FinalMLP
# read user and item, and its FINAL(1B) has no gate.
_FRAPPE: dict[str, Options] = {
    "lr": {"_l2": 0.0},
    "fm": {"_l2": 0.0},
    "pnn": {"dropout": 0.3, "batch_norm": False},
    "wide_deep": {"dropout": 0.6, "_l2": 0.1},
    "dcn": {"num_cross_layers": 3},
    "crossnetv2": {"num_cross_layers": 4, "_l2": 1e-3},
    "dcnv2": {"num_cross_layers": 4, "dropout": 0.4},
    "cin": {"cin_hidden_units": (64, 64, 64), "_l2": 5e-4},
    "xdeepfm": {"cin_hidden_units": (64,), "_l2": 0.1},
    "autoint": {
        "wide": "none",
        "attention_layers": 5,
        "num_heads": 4,
        "attention_dim": 128,
        "use_scale": True,
        "layer_norm": True,
        "dropout": 0.1,
        "_l2": 0.1,
    },
    "afn": {
        "logarithmic_neurons": 1000,
        "afn_hidden_units": (400,),
        "afn_dropout": 0.4,
        "batch_norm": False,
        "_l2": 1e-3,
    },
    "edcn": {"num_cross_layers": 3, "temperature": 5.0, "dropout": 0.3},
    "masknet": {
        "variant": "parallel",
        "hidden_units": (400, 400, 400),
        "num_blocks": 3,
        "block_dim": 50,
        "reduction_ratio": 2.0,
        "dropout": 0.1,
        "embedding_layer_norm": False,
        "_l2": 0.1,
    },
    "finalmlp": {
        "hidden_units": (400,),
        "hidden_units2": (100,),
        "dropout": 0.4,
        "dropout2": 0.4,
        "gate_hidden_units": (400,),
        "num_heads": 5,
    },
    "final1b": {"hidden_units": (400, 400), "dropout": 0.2, "_l2": 0.1},
    "final2b": {"hidden_units": (400, 400), "hidden_units2": (400,), "dropout": 0.1, "_l2": 0.1},
    "qnn": {"num_layers": 2, "num_rows": 13, "_dim": 16, "_l2": 0.1},
}
for _model, _options in _FRAPPE.items():
    MODELS[_model]["frappe"] = _options

# The students of EKTF_Latest, PNN, FINAL(1B) and ECN, on the tower of their dataset (EKTF_L_* logs).
LATEST: dict[str, Options] = {
    "criteo": {"ecn_layers": 4, "dropout": (0.1, 0.1, 0.1), "batch_size": 4096},
    "ml1m": {"ecn_layers": 2, "dropout": (0.1, 0.1, 0.3)},
    "kdd12": {"ecn_layers": 3, "dropout": (0.0, 0.0, 0.0), "l2": 0.0},
    "ipinyou": {"ecn_layers": 3, "dropout": (0.3, 0.2, 0.2)},
    "kkbox": {"ecn_layers": 3, "dropout": (0.1, 0.1, 0.2)},
    # Not published: the dataset's dropout, and ECN's own depth.
    "frappe": {"ecn_layers": 3, "dropout": (0.2, 0.2, 0.2)},
}


def settings(model: str, dataset: str, *, alone: bool) -> tuple[Options, Options]:
    """A model's arguments as a student, and what it changes of the dataset's training settings."""
    entry = MODELS[model]
    everywhere = {key: value for key, value in entry.items() if key not in DATASETS and key != "_alone"}
    tower = {key: DATASETS[dataset][key] for key in _TOWER if key in DATASETS[dataset] and model in _TOWERS}
    merged = tower | everywhere | (entry.get("_alone", {}) if alone else {}) | entry.get(dataset, {})
    run = {key[1:]: value for key, value in merged.items() if key.startswith("_")}
    return {key: value for key, value in merged.items() if not key.startswith("_")}, run
