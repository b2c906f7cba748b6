import re

import jax
from flax import nnx

from configs import quickstart
from ektf_jax.config import Config
from ektf_jax.data import synthetic
from ektf_jax.data.schema import Schema
from ektf_jax.ensemble import count_parameters
from ektf_jax.students import MLP
from ektf_jax.summary import summarize, summarize_student
from ektf_jax.training import build


def test_a_student_is_described_part_by_part():
    student = MLP(3, 4, hidden_units=(5,), rngs=nnx.Rngs(0))
    text = summarize_student(student, 3, 4, depth=3)
    assert "float32[1,3,4]" in text
    assert "hidden_layers/linears/0" in text
    assert re.search(r"kernel:\s", text)
    assert "81 " in text  # 12 x 5 + 5, scale and bias of 5, 5 + 1
    assert "hidden_layers/linears/0" not in summarize_student(student, 3, 4, depth=1)


def test_an_ensemble_adds_up():
    config = quickstart.get_config()
    config.ensemble.num_students = 3
    config.ensemble.students.wide = {"name": "deepfm", "wide": "ids", "hidden_units": (8,)}
    plain = config.to_dict()
    schema = Schema("synthetic", synthetic.fields(build.make_synthetic_spec(Config.from_dict(plain))), {}, {})
    model = build.make_model(Config.from_dict(plain), schema, jax.random.key(0))
    text = summarize(model, schema.num_fields, depth=1)
    rows = schema.num_features
    assert f"{rows:,} features x 9 columns, 1 of them the students' own: {rows * 9:,} parameters" in text
    assert f"ensemble by mean: {count_parameters(model):,} parameters" in text
    each = dict(re.findall(r"x (MLP|DeepFM): [\d,]+ parameters and ([\d,]+) FLOPs", text))
    flops = {name: int(value.replace(",", "")) for name, value in each.items()}
    total = 2 * flops["MLP"] + flops["DeepFM"]
    assert f"{total:,} FLOPs per sample" in text.splitlines()[-2]
    # Two FLOPs for each weight of the products, and little beside.
    products = 2 * (6 * 8 * 64 + 64 * 64 + 64)
    assert products < flops["MLP"] < 1.2 * products


def test_columns_of_each_students_own_are_counted_with_what_training_keeps_of_them():
    config = quickstart.get_config()
    config.ensemble.num_students, config.embedding.sharing = 3, 0.25
    plain = config.to_dict()
    schema = Schema("synthetic", synthetic.fields(build.make_synthetic_spec(Config.from_dict(plain))), {}, {})
    model = build.make_model(Config.from_dict(plain), schema, jax.random.key(0))
    text = summarize(model, schema.num_fields, depth=1)
    rows = schema.num_features
    assert f"{rows:,} features x 12 columns, 6 of them the students' own: {rows * 12:,} parameters" in text
    # Float32, and two moments of each.
    count = count_parameters(model)
    assert f"{4 * count / 2**20:.2f} MiB of parameters, {8 * count / 2**20:.2f} MiB of Adam's" in text
    assert f"the table is {4 * rows * 12 / 2**20:.2f} MiB" in text
    shapes = nnx.eval_shape(lambda: build.make_model(Config.from_dict(plain), schema, jax.random.key(0)))
    assert summarize(shapes, schema.num_fields, depth=1) == text
