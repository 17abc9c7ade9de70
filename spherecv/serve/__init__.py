"""The HTTP service and its page. Needs the extra `server`; nothing of it is imported before it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spherecv.errors import MissingDependencyError

if TYPE_CHECKING:
    from spherecv.serve.app import create_app
    from spherecv.serve.keys import ApiKeys
    from spherecv.serve.pool import PipelinePool
    from spherecv.serve.server import run
    from spherecv.serve.service import FaceService
    from spherecv.serve.settings import ServiceSettings

_HOMES = {
    "ApiKeys": "keys",
    "FaceService": "service",
    "PipelinePool": "pool",
    "ServiceSettings": "settings",
    "create_app": "app",
    "run": "server",
}
_PACKAGES = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart",
             "prometheus_client": "prometheus-client"}  # fmt: skip

__all__ = ["ApiKeys", "FaceService", "PipelinePool", "ServiceSettings", "create_app", "run"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'spherecv.serve' has no attribute {name!r}")
    try:
        return getattr(import_module(f"spherecv.serve.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        raise MissingDependencyError(_PACKAGES[package], "server", "the HTTP service") from None
