"""The HTTP example, spoken to over the loopback."""

import http.client
import importlib.util
import json
import re
import resource
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ektf_jax.bundle import load
from ektf_jax.bundle.export import export
from tests.bundle import shop

uvicorn = pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 1 << 17


def the_example():
    spec = importlib.util.spec_from_file_location("serve_app", ROOT / "examples" / "serve" / "app.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    run = shop.train(tmp_path_factory.mktemp("shop"))
    directory = tmp_path_factory.mktemp("exported") / "bundle"
    export(run, directory)
    return directory


@pytest.fixture(scope="module")
def port(bundle):
    """A server on a free port."""
    app = the_example().make_app(load(bundle), "shop", most_rows=64, most_bytes=MOST_BYTES)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def ask(port, method, path, body=None):
    """Status and JSON of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def columns(count, seed):
    frame = shop.rows(count, seed).select("user", "price", "tags", "city")
    return {name: frame[name].to_list() for name in frame.columns}


def body_of(values, **changes):
    types = {"user": "INT64", "price": "FP64", "tags": "BYTES", "city": "BYTES"}
    inputs = [
        {"name": name, "datatype": types[name], "shape": [len(data)], "data": data}
        for name, data in values.items()
    ]
    return {"inputs": inputs, **changes}


def infer(port, document):
    text = document if isinstance(document, str | bytes) else json.dumps(document)
    return ask(port, "POST", "/v2/models/shop/infer", text)


def test_answers_are_the_bundles(port, bundle):
    values = columns(9, 3)
    status, found = infer(port, body_of(values, id="seven"))
    assert status == 200
    assert (found["model_name"], found["id"]) == ("shop", "seven")
    expected = load(bundle).predict(values)
    for output in found["outputs"]:
        assert output["datatype"] == "FP64"
        data = np.reshape(output["data"], output["shape"])
        np.testing.assert_allclose(data, expected[output["name"]], rtol=1e-9)
    assert [output["shape"] for output in found["outputs"]] == [[9], [3, 9]]


def test_whole_numbers_may_stand_among_others(port):
    """JavaScript writes 1.0 as 1."""
    values = columns(2, 3) | {"price": [1.0, 2.5]}
    found = infer(port, body_of(values | {"price": [1, 2.5]}))
    assert found == infer(port, body_of(values))
    assert found[0] == 200


def test_the_request_of_the_page_on_serving(port):
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    (document,) = re.findall(r"--json '(.*?)'", page, re.S)
    status, found = infer(port, document)
    assert status == 200, found
    assert found["outputs"][1]["shape"] == [3, 2]


def test_numbers_may_be_texts_and_several_values_a_list(port):
    values = columns(5, 3)
    _, expected = infer(port, body_of(values))
    texts = body_of(values | {"tags": [text.split("|") for text in values["tags"]]})
    texts["inputs"][0] |= {"datatype": "BYTES", "data": [str(user) for user in values["user"]]}
    status, found = infer(port, texts)
    assert status == 200
    assert found["outputs"] == expected["outputs"]


def test_health_and_metadata(port):
    assert ask(port, "GET", "/v2/health/live")[0] == 200
    assert ask(port, "GET", "/v2/health/ready")[0] == 200
    assert ask(port, "GET", "/v2/models/shop/ready") == (200, {"name": "shop", "ready": True})
    assert ask(port, "GET", "/v2")[1]["name"] == "ektf-jax"
    status, found = ask(port, "GET", "/v2/models/shop")
    assert status == 200
    assert [one["name"] for one in found["inputs"]] == ["user", "price", "tags", "city"]
    assert found["outputs"][1]["shape"] == [3, -1]
    assert ask(port, "GET", "/v2/models/other")[0] == 404
    schema = ask(port, "GET", "/openapi.json")[1]
    described = schema["paths"]["/v2/models/{model}/infer"]["post"]["requestBody"]["content"][
        "application/json"
    ]
    assert "user, price, tags, city" in json.dumps(described)


def broken():
    """Requests that cannot be answered, each with the status and a part of what is said of it."""
    values = columns(3, 1)
    good = body_of(values)
    first, *others = good["inputs"]
    yield "{", 400, "the body is no JSON"
    yield b"\xff\xfe", 400, "the body is no JSON"
    yield "[" * 100_000, 400, "the body is no JSON"
    yield json.dumps(good).replace(str(values["price"][0]), "NaN", 1), 400, "NaN is no number of JSON"
    yield json.dumps(good).replace(str(values["price"][0]), "1e999", 1), 400, "row 1 is inf"
    yield "[]", 400, "valid dictionary"
    yield "{}", 400, "inputs: Field required"
    yield {"inputs": others}, 400, "inputs lack user"
    yield {"inputs": [*good["inputs"], first]}, 400, "input 'user' is there twice"
    yield {"inputs": [*good["inputs"], first | {"name": "x"}]}, 400, "input 'x' is none of the model's"
    yield {"inputs": [first | {"shape": [2]}, *others]}, 400, "has the shape [2] and 3 values"
    yield {"inputs": [first | {"shape": [3, 1]}, *others]}, 400, "has the shape [3, 1]"
    yield {"inputs": [first | {"shape": [2], "data": [1, 2]}, *others]}, 400, "inputs have [2, 3] rows"
    yield {"inputs": [first | {"datatype": "FP128"}, *others]}, 400, "datatype"
    yield {"inputs": [first | {"data": [1, "two", 3]}, *others]}, 400, "row 2: 'two' is no INT64"
    yield {"inputs": [first | {"data": [1, {}, 3]}, *others]}, 400, "inputs.0.data.1"
    yield {"inputs": [first | {"data": [1, 10**30, 3]}, *others]}, 400, ""
    yield {"inputs": [first | {"datatype": "BYTES", "data": ["\ud800", "a", "b"]}, *others]}, 400, ""
    yield body_of(values | {"price": ["dear", "1", "2"]}) | {"id": 3}, 400, ""
    many = body_of(columns(65, 1))
    yield many, 400, "a request has 65 rows; it can have 1 to 64"
    yield body_of({name: [] for name in values}), 400, "a request has 0 rows"
    yield {"inputs": good["inputs"], "more": "x" * MOST_BYTES}, 413, f"more than {MOST_BYTES} bytes"


@pytest.mark.parametrize("case", range(len(list(broken()))))
def test_a_broken_request_is_told_why_and_the_server_goes_on(port, case):
    document, status, said = list(broken())[case]
    found, answer = infer(port, document)
    assert found == status, answer
    assert said in json.dumps(answer, ensure_ascii=False)
    assert infer(port, body_of(columns(2, 1)))[0] == 200


def test_a_value_that_cannot_be_is_named(port):
    values = columns(3, 1)
    document = body_of(values)
    document["inputs"][1] |= {"datatype": "BYTES", "data": ["1", "dear", "2"]}
    status, answer = infer(port, document)
    assert status == 400
    assert "price" in answer["error"]
    assert "dear" in answer["error"]


# 300 have every broken one.
@pytest.mark.parametrize("requests", [300, pytest.param(1000, marks=pytest.mark.long)])
def test_many_requests_of_eight_clients(port, bundle, requests):
    """Nine in ten are answered right and the others, which are broken, by 4xx; memory does not grow."""
    loaded, bad = load(bundle), list(broken())
    asked = {seed: columns(1 + seed % 5, seed) for seed in range(20)}
    expected = {seed: loaded.predict(values)["ensemble"] for seed, values in asked.items()}

    def one(number):
        if number % 10 == 9:
            document, status, _ = bad[number % len(bad)]
            return infer(port, document)[0] == status
        seed = number % 20
        status, found = infer(port, body_of(asked[seed]))
        return status == 200 and np.allclose(found["outputs"][0]["data"], expected[seed], rtol=1e-9)

    with ThreadPoolExecutor(8) as clients:
        assert all(clients.map(one, range(200)))  # what is compiled and cached once
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert all(clients.map(one, range(requests)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
