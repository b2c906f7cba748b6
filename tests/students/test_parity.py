r"""The students against their PyTorch originals: FuxiCTR's models, and EKTF's and CL4CTR's authors' networks.

The numbers in fixtures/ were made by make_fixtures.py, in double precision; each case gives a student the
original's weights. With the originals at hand,

    PEERS_FUXICTR=CHECKOUT PEERS_FUXICTR1=CHECKOUT PEERS_EKTF=CHECKOUT PEERS_CL4CTR=CHECKOUT \
        PEERS_FCN=CHECKOUT PEERS_QNN=CHECKOUT \
        pytest tests/students/test_parity.py

runs them beside the students (`pip install ektf-jax[peers]`, see make_fixtures.py for the checkouts).
"""

import importlib.util
import inspect
import os
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ektf_jax import losses
from ektf_jax.data.schema import Schema, make_fields
from ektf_jax.ensemble import Ensemble, count_parameters
from ektf_jax.students import REGISTRY

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("make_fixtures", HERE / "make_fixtures.py")
make_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_fixtures)

CASES = {case.name: case for case in make_fixtures.CASES}
DIM, ROWS, FIELDS = make_fixtures.DIM, make_fixtures.ROWS, make_fixtures.FIELDS
NAMES = list(make_fixtures.VOCABULARY)
SCHEMA = Schema(
    "tiny",
    make_fields(
        [
            (name, size, make_fixtures.MAX_GENRES if name == "genres" else 1)
            for name, size in make_fixtures.VOCABULARY.items()
        ]
    ),
    {},
    {},
)
KEY = jax.random.key(0)
CHECKOUTS = [f"PEERS_{name}" for name in ("FUXICTR", "FUXICTR1", "EKTF", "CL4CTR", "FCN", "QNN")]
PEERS = [os.environ.get(name) for name in CHECKOUTS]


# From PyTorch's names to ours. Each function takes {PyTorch name: array}, of weights or of gradients, and
# returns {our path: array}; what an original or a record lacks (a bias, running statistics) is left out.


def take(arrays, names):
    return {ours: arrays[theirs] for ours, theirs in names.items() if theirs in arrays}


def linear(arrays, ours, theirs):
    found = take(arrays, {f"{ours}/kernel": f"{theirs}.weight", f"{ours}/bias": f"{theirs}.bias"})
    return {path: a.reshape(a.shape[:2]).T if path.endswith("kernel") else a for path, a in found.items()}


def norm(arrays, ours, theirs):
    names = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    return take(arrays, {f"{ours}/{o}": f"{theirs}.{t}" for o, t in names.items()})


def hidden(arrays, ours, theirs):
    """FuxiCTR's MLP_Block: linear layers and BatchNorms of one nn.Sequential, with or without an output."""
    layers = sorted(
        {
            int(name.removeprefix(f"{theirs}.").split(".")[0])
            for name in arrays
            if name.startswith(f"{theirs}.")
        }
    )
    linears = [i for i in layers if arrays[f"{theirs}.{i}.weight"].ndim == 2]
    norms = [i for i in layers if i not in linears]
    found = {}
    for k, i in enumerate(linears):
        found |= linear(arrays, f"{ours}/linears/{k}", f"{theirs}.{i}")
    for k, i in enumerate(norms):
        found |= norm(arrays, f"{ours}/norms/{k}", f"{theirs}.{i}")
    return found


def dnn(arrays, ours, theirs):
    """An MLP_Block with an output: the last linear layer is the output."""
    found = hidden(arrays, f"{ours}/hidden_layers", theirs)
    last = max(int(path.split("/linears/")[1].split("/")[0]) for path in found if "/linears/" in path)
    prefix = f"{ours}/hidden_layers/linears/{last}"
    return {path.replace(prefix, f"{ours}/output"): array for path, array in found.items()}


def wide(arrays, ours, theirs):
    """Over ids the weights are in the table: only the bias is here. Over embeddings it is a linear layer."""
    return (
        take(arrays, {f"{ours}/bias": f"{theirs}.bias"})
        if f"{theirs}.embedding_layer.embedding_layer.embedding_layers.user.weight" in arrays
        else linear(arrays, f"{ours}/linear", f"{theirs}.lr_layer")
    )


def cin(arrays, ours, theirs):
    found = linear(arrays, f"{ours}output", f"{theirs}fc")
    for k in range(2):
        found |= linear(arrays, f"{ours}linears/{k}", f"{theirs}cin_layer.layer_{k + 1}")
    return found


def each(count, convert, ours, theirs, arrays):
    """`convert` for k = 0, 1, ... where {} in the names is k."""
    found = {}
    for k in range(count):
        found |= convert(arrays, ours.format(k), theirs.format(k))
    return found


def lr(a):
    return wide(a, "wide", "lr_layer") if "lr_layer.weight" not in a else linear(a, "wide/linear", "lr_layer")


def fm(a):
    return wide(a, "wide", "fm.lr_layer")


def mlp(a):
    return {path.removeprefix("/"): array for path, array in dnn(a, "", "mlp.mlp").items()}


def pnn(a):
    return dnn(a, "dnn", "dnn.mlp")


def wide_deep(a):
    return wide(a, "wide", "lr_layer") | dnn(a, "dnn", "dnn.mlp")


def deepfm(a):
    return wide(a, "fm/wide", "fm.lr_layer") | dnn(a, "dnn", "mlp.mlp")


def dcn(a):
    found = hidden(a, "hidden_layers", "dnn.mlp") | linear(a, "output", "fc")
    found |= each(2, linear, "cross_layers/{}/weight", "crossnet.cross_net.{}.weight", a)
    return found | {f"cross_layers/{k}/bias": a[f"crossnet.cross_net.{k}.bias"] for k in range(2)}


def crossnetv2(a):
    return linear(a, "output", "fc") | each(
        2, linear, "cross_layers/linears/{}", "crossnet.cross_layers.{}", a
    )


def dcnv2(a):
    if "parallel_dnn.mlp.0.weight" in a:
        return crossnetv2(a) | hidden(a, "hidden_layers", "parallel_dnn.mlp")
    # The authors concatenate the MLP's units first.
    found = crossnetv2(a) | hidden(a, "hidden_layers", "dnn.mlp")
    return found | {"output/kernel": np.roll(found["output/kernel"], -5, axis=0)}


def xdeepfm(a):
    return wide(a, "wide", "lr_layer") | dnn(a, "dnn", "dnn.mlp") | cin(a, "cin/", "cin.")


def autoint(a):
    found = dnn(a, "dnn", "dnn.mlp") | linear(a, "output", "fc")
    for ours, theirs in {"query": "q", "key": "k", "value": "v", "residual": "res"}.items():
        found |= each(2, linear, f"attention/{{}}/{ours}", f"self_attention.{{}}.W_{theirs}", a)
    return found | each(2, norm, "attention/{}/norm", "self_attention.{}.layer_norm", a)


def afn(a):
    found = (
        linear(a, "orders", "coefficient_W")
        | norm(a, "log_norm", "log_batch_norm")
        | norm(a, "exp_norm", "exp_batch_norm")
        | dnn(a, "afn", "dense_layer.mlp")
        | dnn(a, "dnn", "dnn.mlp")
        | linear(a, "output", "fc")
    )
    # Its inputs are in the order of neurons, then dimensions; ours the other way round.
    first = "afn/hidden_layers/linears/0/kernel"
    neurons, outputs = a["coefficient_W.weight"].shape[0], found[first].shape[1]
    found[first] = found[first].reshape(neurons, -1, outputs).swapaxes(0, 1).reshape(-1, outputs)
    return found


def edcn(a):
    found = each(2, linear, "deep_layers/{}/linears/0", "dense_layers.{}.mlp.0", a)
    found |= each(2, linear, "deep_layers/{}/linears/0", "dense_layers.{}.dnn.0", a)  # in FuxiCTR 1.2.2
    found |= each(2, linear, "cross_layers/{}/weight", "cross_layers.{}.weight", a)
    for k in range(2):
        found[f"cross_layers/{k}/bias"] = a[f"cross_layers.{k}.bias"]
        for i in range(2):
            found |= take(a, {f"regulations/{k}/gates/{i}": f"regulation_modules.{k}.g{i + 1}"})
            found |= norm(a, f"regulations/{k}/norms/{i}", f"regulation_modules.{k}.bn{i + 1}")
    return found | linear(a, "output", "fc")


def masknet(a):
    found = each(2, linear, "blocks/{}/mask/layers/0", "mask_net.mask_blocks.{}.mask_layer.0", a)
    found |= each(2, linear, "blocks/{}/mask/layers/2", "mask_net.mask_blocks.{}.mask_layer.2", a)
    found |= each(2, linear, "blocks/{}/linear", "mask_net.mask_blocks.{}.hidden_layer.0", a)
    found |= each(2, norm, "blocks/{}/norm", "mask_net.mask_blocks.{}.hidden_layer.1", a)
    for ours, theirs in (("scale", "weight"), ("bias", "bias")):
        found[f"norm/{ours}"] = np.stack([a[f"emb_norm.{f}.{theirs}"] for f in range(FIELDS)])
    if "mask_net.fc.0.weight" in a:
        return found | linear(a, "output", "mask_net.fc.0")
    return found | dnn(a, "dnn", "mask_net.dnn.mlp")


def cl4ctr(a):
    found = each(2, linear, "projections/{}", "projector{}", a)
    found = linear(a, "projections/0", "projector1") | linear(a, "projections/1", "projector2")
    for k in range(3):
        theirs = f"fi_cl.layers.{k}"
        for i, name in enumerate(("query", "key", "value")):
            rows = slice(i * DIM, (i + 1) * DIM)
            found[f"encoder/{k}/{name}/kernel"] = a[f"{theirs}.self_attn.in_proj_weight"][rows].T
            found[f"encoder/{k}/{name}/bias"] = a[f"{theirs}.self_attn.in_proj_bias"][rows]
        found |= linear(a, f"encoder/{k}/projection", f"{theirs}.self_attn.out_proj")
        found |= linear(a, f"encoder/{k}/expand", f"{theirs}.linear1")
        found |= linear(a, f"encoder/{k}/contract", f"{theirs}.linear2")
        found |= norm(a, f"encoder/{k}/norms/0", f"{theirs}.norm1")
        found |= norm(a, f"encoder/{k}/norms/1", f"{theirs}.norm2")
    return found


def eulernet(a):
    found = {"modulus": a["mu"][0]} | linear(a, "output", "reg")
    for k in range(2):
        ours, theirs = f"layers/{k}", f"Euler_interaction_layers.{k}"
        found |= take(a, {f"{ours}/orders": f"{theirs}.inter_orders"})
        for mine, name in (("log_modulus_bias", "bias_lam"), ("phase_bias", "bias_theta")):
            if f"{theirs}.{name}" in a:
                found[f"{ours}/{mine}"] = a[f"{theirs}.{name}"][0]
        found |= linear(a, f"{ours}/linear", f"{theirs}.im")
        for i, name in enumerate(("norm_r", "norm_p")):
            found |= norm(a, f"{ours}/norms/{i}", f"{theirs}.{name}")
    return found


def finalmlp(a):
    found = hidden(a, "mlp1", "mlp1.mlp") | hidden(a, "mlp2", "mlp2.mlp")
    for i in range(2):
        found[f"gates/{i}/context"] = a[f"fs_module.fs{i + 1}_ctx_bias"]
        found |= dnn(a, f"gates/{i}", f"fs_module.fs{i + 1}_gate.mlp")
    found |= linear(a, "output1", "fusion_module.w_x") | linear(a, "output2", "fusion_module.w_y")
    return found | {"bilinear": a["fusion_module.w_xy"].reshape(2, 2, 2)}


def final(a):
    if "field_gate.linear.weight" in a:
        a = {f"block1.{name}" if name.startswith(("layer", "norm")) else name: v for name, v in a.items()}
        found = linear(a, "gate/linear", "field_gate.linear") | linear(a, "blocks/0/output", "fc")
    else:
        found = linear(a, "gate/linear", "feature_gating.linear") | linear(a, "blocks/0/output", "fc1")
    for i in range(2):
        theirs = f"block{i + 1}"
        found |= each(2, linear, f"blocks/{i}/linears/{{}}", f"{theirs}.layer.{{}}.linear", a)
        found |= each(2, norm, f"blocks/{i}/norms/{{}}", f"{theirs}.norm.{{}}", a)
    return found | linear(a, "blocks/1/output", "fc2")


def ecn(a):
    found = linear(a, "output", "fc") | each(2, linear, "layers/{}/linear", "w.{}", a)
    found |= each(2, norm, "layers/{}/layer_norm", "layer_norm.{}", a)
    found |= each(2, norm, "layers/{}/batch_norm", "batch_norm.{}", a)
    return found | take(a, {f"layers/{k}/bias": f"b.{k}" for k in range(2)})


def fcn(a):
    found = linear(a, "deep_output", "ECN.dfc") | linear(a, "shallow_output", "LCN.sfc")
    for ours, theirs, layers in (("deep", "ECN", 2), ("shallow", "LCN", 1)):
        found |= each(layers, linear, f"{ours}/{{}}/linear", f"{theirs}.w.{{}}", a)
        found |= each(layers, norm, f"{ours}/{{}}/layer_norm", f"{theirs}.layer_norm.{{}}", a)
        found |= each(layers, norm, f"{ours}/{{}}/batch_norm", f"{theirs}.batch_norm.{{}}", a)
        found |= take(a, {f"{ours}/{k}/bias": f"{theirs}.b.{k}" for k in range(layers)})
    return found


def qnn(a):
    found = linear(a, "output", "1.fc") | each(2, linear, "layers/{}/linear", "1.layer.{}.linear.0", a)
    return found | each(2, norm, "layers/{}/norm", "1.layer.{}.linear.1", a)


CONVERT = {
    "lr": lr, "fm": fm, "mlp": mlp, "pnn": pnn, "wide_deep": wide_deep, "deepfm": deepfm, "dcn": dcn,
    "crossnetv2": crossnetv2, "dcnv2": dcnv2, "cin": lambda a: cin(a, "", ""), "xdeepfm": xdeepfm,
    "autoint": autoint, "afn": afn, "edcn": edcn, "masknet": masknet, "cl4ctr": cl4ctr,
    "eulernet": eulernet, "finalmlp": finalmlp, "final": final, "ecn": ecn, "fcn": fcn,
    "qnn": qnn,
}  # fmt: skip


def table(arrays):
    """The fused table: the shared embeddings, the student's own, the weights of its linear part."""
    layers = {name.partition("embedding_layers.")[0] for name in arrays if "embedding_layers." in name}
    order = sorted(layers, key=lambda layer: ("lr_layer" in layer, "layer2" in layer))
    columns = [
        np.concatenate([arrays[f"{layer}embedding_layers.{name}.weight"] for name in NAMES])
        for layer in order
    ]
    return np.concatenate(columns, axis=1)


def state_of(module, values):
    """The module's state with `values` {path: array} for all of it."""
    state = nnx.to_pure_dict(nnx.state(module, (nnx.Param, nnx.BatchStat)))
    paths = {path for path, _ in paths_and_leaves(state)}
    assert set(values) == paths, (sorted(set(values) - paths), sorted(paths - set(values)))
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: values[jax.tree_util.keystr(path, simple=True, separator="/")].reshape(leaf.shape),
        state,
    )


def paths_and_leaves(state):
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    ]


def flat(state):
    return {path: np.asarray(leaf) for path, leaf in paths_and_leaves(nnx.to_pure_dict(state))}


def part(record, prefix):
    return {n.removeprefix(f"{prefix}/"): a for n, a in record.items() if n.startswith(f"{prefix}/")}


def converted(case, arrays, *, whole):
    """All of a module's values: a student's, or those of an ensemble of one with its table."""
    values = CONVERT[case.student](arrays)
    if not whole:
        return values
    return {f"groups/0/students/{path}": a for path, a in values.items()} | {"embedding/table": table(arrays)}


def fused(local_ids):
    """Ids of each field's own vocabulary, as ids of the fused table."""
    offsets = np.repeat([field.offset for field in SCHEMA.fields], [field.max_len for field in SCHEMA.fields])
    return np.where(local_ids == 0, 0, local_ids + offsets)


def options_of(case):
    """The case's options, and nothing is dropped out."""
    rates = (
        *("dropout", "afn_dropout", "dropout2", "encoder_dropout", "mask_ratio"),
        *("deep_dropout", "shallow_dropout"),
    )
    accepted = inspect.signature(REGISTRY[case.student].__init__).parameters
    return case.student_options | {rate: 0.0 for rate in rates if rate in accepted}


def make_module(case):
    student = partial(REGISTRY[case.student], **options_of(case))
    if case.takes == "embeddings":
        return student(FIELDS, DIM, rngs=nnx.Rngs(0))
    dim = 0 if case.name == "lr_ids" else DIM
    return Ensemble(SCHEMA.fields, [(student, 1)], embedding_dim=dim, key=KEY)


def run(module, x, labels, *, train):
    more = {} if labels is None else {"labels": labels}
    output = module(x, train=train, key=KEY if train else None, **more)
    if isinstance(module, Ensemble):
        return output.students[0], (output.auxiliary_losses[0] if train else 0.0)
    return output if isinstance(output, tuple) else (output, 0.0)


@pytest.fixture(scope="module", autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


# A cross network, products, a tower, gates and attention: make test-all has all.
FAST = ("mlp", "pnn", "ecn", "final_1b", "qnn")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in CASES],
)
def case_and_record(request):
    case = CASES[request.param]
    return case, dict(np.load(HERE / "fixtures" / f"{case.name}.npz"))


def check(case, record):
    whole = case.takes == "ids"
    module = nnx.eval_shape(partial(make_module, case))
    weights = converted(case, part(record, "weights"), whole=whole)
    if case.student == "eulernet" and "layer_norm" not in case.student_options:
        # The original has norms that it does not use.
        unused = {path for path in weights if "/norms/" in path}
        assert count_parameters(module) == record["count"] - sum(weights[path].size for path in unused)
        weights = {path: array for path, array in weights.items() if path not in unused}
    elif case.predicts:
        assert count_parameters(module) == record["count"]
    if case.student == "cl4ctr":
        # Its linear part, for which the original has no counterpart over embeddings, is set to 0.
        wide = nnx.to_pure_dict(nnx.state(module.base.wide))
        weights |= {f"base/wide/{path}": np.zeros(leaf.shape) for path, leaf in paths_and_leaves(wide)}
    graphdef, state = nnx.split(module)
    nnx.replace_by_pure_dict(state, state_of(module, weights))
    x = fused(record["ids"]) if whole else record["embeddings"]
    found = jax.tree.map(
        np.asarray, outcome(graphdef, state, x, record.get("labels"), record.get("cotangent"))
    )

    close = partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-9)
    if case.student == "cl4ctr":
        close(found["eval_logits"], record["fm_logits"])
    if case.predicts:
        close(found["eval_logits"], record["eval_logits"])
        close(found["train_logits"], record["train_logits"])
        before, after = part(record, "weights"), part(record, "after")
        if after:
            expected = converted_statistics(case, before, after, whole)
            jax.tree.map(close, flat(found["statistics"]), expected)
        compare_gradients(case, part(record, "grad"), found["grad"], close)
    if "train_loss" in record:
        close(found["train_loss"], record["train_loss"])
        compare_gradients(case, part(record, "lossgrad"), found["lossgrad"], close)


@jax.jit
def outcome(graphdef, state, x, labels, cotangent):
    """What a record has of a module: logits, its own loss, statistics, and the gradients of both."""
    _, parameters, rest = nnx.split(nnx.merge(graphdef, state), nnx.Param, ...)

    def outputs(parameters, x, train):
        module = nnx.merge(graphdef, parameters, rest, copy=True)
        logits, loss = run(module, x, labels, train=train)
        return (logits, jnp.asarray(loss, logits.dtype)), nnx.state(module, nnx.BatchStat)

    def trained(parameters, x=x):
        return outputs(parameters, x, True)

    inputs = (parameters,) if jnp.issubdtype(x.dtype, jnp.integer) else (parameters, x)
    (logits, loss), back, statistics = jax.vjp(trained, *inputs, has_aux=True)
    found = {
        "eval_logits": outputs(parameters, x, False)[0][0],
        "train_logits": logits,
        "train_loss": loss,
        "statistics": statistics,
        "lossgrad": back((jnp.zeros_like(logits), jnp.ones_like(loss))),
    }
    if cotangent is not None:
        found["grad"] = back((cotangent, jnp.zeros_like(loss)))
    return found


def converted_statistics(case, before, after, whole):
    """The original's running statistics with the batch's biased variance, as ours have it.

    PyTorch's is n / (n - 1) times that, n rows of a channel: times D in AFN's norms, F * D / 2 in ECN's and
    in those of FCN's heads.
    """
    corrected = {}
    for name, value in after.items():
        rows = ROWS * (DIM if "log_batch" in name or "exp_batch" in name else 1)
        if case.student in ("ecn", "fcn"):
            rows *= FIELDS * DIM // 2 // case.student_options.get("num_heads", 1)
        batch = (value - 0.9 * before[name]) * ((rows - 1) / rows if name.endswith("var") else 1)
        corrected[name] = 0.9 * before[name] + batch
    values = converted(case, before | corrected, whole=whole)
    return {path: a[None] if whole else a for path, a in values.items() if path.endswith(("/mean", "/var"))}


def compare_gradients(case, expected, gradients, close):
    """Of parameters, and of embeddings where these are the input."""
    if case.takes == "embeddings":
        close(gradients[1], expected.pop("embeddings"))
    if case.student == "cl4ctr":  # the encoder's gradients are not recorded
        values = {
            f"projections/{i}/{n}": a
            for i in range(2)
            for n, a in (
                ("kernel", expected[f"projector{i + 1}.weight"].T),
                ("bias", expected[f"projector{i + 1}.bias"]),
            )
        }
    else:
        values = converted(case, expected, whole=case.takes == "ids")
    found = flat(gradients[0])
    for path, value in values.items():
        if path in found:
            close(found[path].reshape(value.shape), value, err_msg=path)
    assert set(values) >= set(found) or case.student == "cl4ctr"


def test_student_equals_its_original(case_and_record):
    check(*case_and_record)


@pytest.mark.skipif(None in PEERS, reason=f"no {', '.join(CHECKOUTS)}")
def test_student_equals_its_original_run_beside_it(case_and_record):
    case, record = case_and_record
    beside = make_fixtures.reference(case, make_fixtures.Checkouts(*map(Path, PEERS)))
    assert beside.keys() == record.keys()
    check(case, beside)


def test_self_transfer_is_the_loss_of_qnn_alpha():
    record = np.load(HERE / "fixtures" / "self_transfer.npz")

    def loss(passes):
        logits, own = losses.self_transfer(passes[:, None])
        return jnp.sum(losses.ctr_loss(logits, jnp.asarray(record["labels"])) + own)

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(record["logits"]))
    np.testing.assert_allclose(value, record["loss"], rtol=1e-12)
    np.testing.assert_allclose(gradient, record["grad"], rtol=1e-12, atol=1e-15)


def test_every_student_has_an_original():
    # DAGFM's is in none of these projects; test_dagfm.py has its formula.
    assert {case.student for case in CASES.values()} == set(REGISTRY) - {"dagfm"}
