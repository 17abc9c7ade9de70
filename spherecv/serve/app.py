"""ASGI application: routes, gate, telemetry and service limits put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from spherecv import __version__
from spherecv.serve import answers
from spherecv.serve.desk import Desk
from spherecv.serve.gate import Gate
from spherecv.serve.keys import ApiKeys
from spherecv.serve.page import page_routes
from spherecv.serve.problems import INTERNAL, Problem, as_json, problem_of_status
from spherecv.serve.routes import face_routes, gallery_routes
from spherecv.serve.service import FaceService
from spherecv.serve.telemetry import Metrics, Telemetry, trace_of

_ABOUT = (
    "Face verification with Caffe-era models. Images come as files of a form or as base64 in JSON, and are kept "
    "nowhere; enrolled people are kept as embeddings until they are removed. Booleans are `true` or `false` and "
    "nothing else. Every refusal is an `application/problem+json` of one sentence."
)


def create_app(service: FaceService, *, keys: ApiKeys | None = None) -> ASGIApp:
    """Make the application.

    Parameters
    ----------
    service : FaceService
        Closed when the application's lifespan ends.
    keys : ApiKeys, optional
        Without any, the service answers callers on this machine only.

    Returns
    -------
    ASGI application
        For any ASGI server; `spherecv.serve.run` runs it in uvicorn.
    """
    keys = keys or ApiKeys()
    desk = Desk(service.settings, lambda: service.pool.backlog)
    metrics = Metrics(service, desk)
    state = {"stopping": False}

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        state["stopping"] = True
        await desk.close()
        service.close()

    app = FastAPI(
        title="SphereCV",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.include_router(face_routes(service, desk))
    app.include_router(gallery_routes(service, desk))
    app.include_router(page_routes())
    _add_status(app, metrics, state)
    _add_problems(app)
    _document(app, with_keys=bool(keys))
    return Telemetry(Gate(app, keys=keys, desk=desk, settings=service.settings), metrics=metrics)


def _add_status(app: FastAPI, metrics: Metrics, state: dict[str, bool]) -> None:
    @app.get("/healthz", tags=["status"], responses={200: {"content": {"application/json": {"schema": _HEALTH}}}})
    async def healthz() -> Response:
        """Tell that the service is up."""
        return Response(as_json({"status": "stopping" if state["stopping"] else "ok"}), media_type="application/json")

    @app.get("/metrics", tags=["status"], responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    def prometheus() -> Response:
        """Numbers for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


_HEALTH = {"type": "object", "properties": {"status": {"type": "string", "examples": ["ok"]}}, "required": ["status"]}


def _add_problems(app: FastAPI) -> None:
    def answer(request: Request, problem: Problem) -> Response:
        trace_of(request.scope).problem = problem.kind
        return problem.response()

    @app.exception_handler(Problem)
    async def on_problem(request: Request, problem: Problem) -> Response:
        return answer(request, problem)

    @app.exception_handler(HTTPException)
    async def on_status(request: Request, error: HTTPException) -> Response:
        words = {404: "there is nothing at this address", 405: f"{request.method} is not for this address"}
        detail = words.get(error.status_code, str(error.detail))
        return answer(request, problem_of_status(error.status_code, detail, error.headers))

    @app.exception_handler(Exception)  # the middleware outside logs it
    async def on_fault(request: Request, _fault: Exception) -> Response:
        return answer(request, Problem("internal", INTERNAL))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        first: Any = error.errors()[0]
        where = ".".join(str(part)[:80] for part in first["loc"][1:])
        return answer(request, Problem("invalid", f"{where} {first['msg'].replace('Input should', 'should', 1)}"))


def _document(app: FastAPI, *, with_keys: bool) -> None:
    """Complete the OpenAPI document by what FastAPI cannot know: problems, and the key."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            parts = document.setdefault("components", {}).setdefault("schemas", {})
            parts["ProblemAnswer"] = answers.ProblemAnswer.model_json_schema()
            for name, schema in parts.items():
                if (model := getattr(answers, name, None)) and "examples" in schema:
                    schema["examples"] = model.model_json_schema()["examples"]  # FastAPI drops the nulls in them
            if with_keys:
                document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                for path, operations in document["paths"].items():
                    if path.startswith(("/v1/", "/metrics")):
                        for operation in operations.values():
                            operation["security"] = [{"key": []}]
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
