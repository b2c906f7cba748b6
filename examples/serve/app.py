"""Serves a bundle over HTTP by the Open Inference Protocol, version 2.

    pip install "ektf-jax[bundle]" fastapi uvicorn
    BUNDLE=bundle uvicorn --app-dir examples/serve app:app --port 8080

    curl localhost:8080/v2/models/ektf/infer --json '{"inputs": [
        {"name": "user", "datatype": "BYTES", "shape": [2], "data": ["7", "8"]},
        {"name": "city", "datatype": "BYTES", "shape": [2], "data": ["x", null]}]}'

Each field of the model is an input of shape [N]: texts, numbers, true or false, or null where a value is
missing; of a field with several values, texts that join them or lists of texts. The outputs are the
probabilities "ensemble" [N] and "students" [K, N]. A request of another form gets a 4xx that says why, and
the server goes on.

NAME (ektf), MOST_ROWS (4096) and MOST_BYTES (16 MiB) are read from the environment, too.
"""

import json
import math
import os
from collections.abc import Mapping
from typing import Any, NoReturn

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

import ektf_jax
from ektf_jax.bundle import Bundle
from ektf_jax.errors import InputError

Value = bool | int | float | str | list[str] | None


class Tensor(BaseModel):
    """An input: one value a row."""

    model_config = ConfigDict(extra="ignore")
    name: str
    datatype: str = Field(pattern="^(BYTES|BOOL|U?INT(8|16|32|64)|FP(32|64))$")
    shape: list[int]
    data: list[Value]

    @field_validator("data")
    @classmethod
    def _is_finite(cls, data: list[Value]) -> list[Value]:
        for row, value in enumerate(data):
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"row {row + 1} is {value}; null is a missing value")
        return data

    @model_validator(mode="after")
    def _has_its_shape(self) -> "Tensor":
        if self.shape != [len(self.data)]:
            raise ValueError(f"{self.name!r} has the shape {self.shape} and {len(self.data)} values, not [N]")
        types = {"BYTES": str | list, "BOOL": bool}.get(self.datatype, int | float)
        for row, value in enumerate(self.data):
            if not isinstance(value, types) and value is not None:
                raise ValueError(f"{self.name!r}, row {row + 1}: {value!r} is no {self.datatype}")
        return self


def request_of(fields: tuple[str, ...], most_rows: int) -> type[BaseModel]:
    """What a request must be for a bundle with these fields."""

    def check(cls: type, inputs: list[Tensor]) -> list[Tensor]:
        names = [tensor.name for tensor in inputs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"input {twice[0]!r} is there twice")
        if missing := [name for name in fields if name not in names]:
            raise ValueError(f"inputs lack {', '.join(missing)}; the model reads {', '.join(fields)}")
        if unknown := [name for name in names if name not in fields]:
            raise ValueError(f"input {unknown[0]!r} is none of the model's; it reads {', '.join(fields)}")
        rows = {len(tensor.data) for tensor in inputs}
        if len(rows) > 1:
            raise ValueError(f"inputs have {sorted(rows)} rows; all must have as many")
        if rows and not 1 <= max(rows) <= most_rows:
            raise ValueError(f"a request has {max(rows)} rows; it can have 1 to {most_rows}")
        return inputs

    return create_model(
        "InferRequest",
        id=(str | None, None),
        inputs=(list[Tensor], Field(description=f"One of each of: {', '.join(fields)}.")),
        __validators__={"check": field_validator("inputs")(check)},
    )


def make_app(bundle: Bundle, name: str = "ektf", most_rows: int = 4096, most_bytes: int = 1 << 24) -> FastAPI:
    """The server of one bundle."""
    fields = tuple(field.name for field in bundle.encoder.fields)
    Infer = request_of(fields, most_rows)
    app = FastAPI(title=f"{name}: click-through rates", version=ektf_jax.__version__)
    students = max(1, bundle.students)

    @app.get("/v2")
    def server() -> dict[str, Any]:
        return {"name": "ektf-jax", "version": ektf_jax.__version__, "extensions": []}

    @app.get("/v2/health/live")
    @app.get("/v2/health/ready")
    def health() -> dict[str, bool]:
        return {"live": True, "ready": True}

    def known(model: str) -> None:
        if model != name:
            raise HTTPException(404, f"there is no model {model!r}; there is {name!r}")

    @app.get("/v2/models/{model}/ready")
    def ready(model: str) -> dict[str, Any]:
        known(model)
        return {"name": name, "ready": True}

    @app.get("/v2/models/{model}")
    def metadata(model: str) -> dict[str, Any]:
        known(model)
        return {
            "name": name,
            "platform": "ektf-bundle",
            "inputs": [{"name": field, "datatype": "BYTES", "shape": [-1]} for field in fields],
            "outputs": [
                {"name": "ensemble", "datatype": "FP64", "shape": [-1]},
                {"name": "students", "datatype": "FP64", "shape": [students, -1]},
            ],
            "parameters": {"most_rows": most_rows, "most_bytes": most_bytes},
        }

    @app.post("/v2/models/{model}/infer", openapi_extra={"requestBody": _described(Infer)})
    async def infer(model: str, request: Request) -> dict[str, Any]:
        known(model)
        try:
            document = json.loads(await _body(request, most_bytes), parse_constant=_refuse)
            asked: Any = Infer.model_validate(document)
        except ValidationError as error:
            raise HTTPException(400, [_said(one) for one in error.errors()]) from None
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, f"the body is no JSON: {error}") from None
        columns = {tensor.name: tensor.data for tensor in asked.inputs}
        try:
            found = await run_in_threadpool(bundle.predict, columns)
        except InputError as error:
            raise HTTPException(400, str(error)) from None
        return {
            "model_name": name,
            **({"id": asked.id} if asked.id is not None else {}),
            "outputs": [
                {
                    "name": key,
                    "datatype": "FP64",
                    "shape": list(values.shape),
                    "data": values.ravel().tolist(),
                }
                for key, values in found.items()
            ],
        }

    @app.exception_handler(HTTPException)
    async def said(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": [_said(one) for one in error.errors()]}, 400)

    return app


async def _body(request: Request, most: int) -> bytes:
    """The body, of which no more is read than it may have."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"the body has more than {most} bytes; send fewer rows at a time")
        parts.append(part)
    return b"".join(parts)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON; null is a missing value")


def _said(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg'].removeprefix('Value error, ')}" if where else error["msg"]


def _described(model: type[BaseModel]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}


def __getattr__(name: str) -> FastAPI:
    """`app`, made when a server asks for it, of the bundle that the environment names."""
    if name != "app":
        raise AttributeError(name)
    limits = {key.lower(): int(os.environ[key]) for key in ("MOST_ROWS", "MOST_BYTES") if key in os.environ}
    return make_app(ektf_jax.load_bundle(os.environ["BUNDLE"]), os.environ.get("NAME", "ektf"), **limits)
