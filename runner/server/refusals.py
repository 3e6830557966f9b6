"""What a server refuses, and how each dialect words it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from franken_gguf.quantize.common.errors import FrankenError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    500: "server_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


class RequestError(FrankenError):
    """A request cannot be answered; `field` is the one that is wrong, `code` OpenAI's name of it.

    `extra` is added to llama.cpp's form.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        field: str = "",
        code: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.code = code
        self.extra = extra or {}


def as_request_error(error: FrankenError) -> RequestError:
    """`error` itself, or what it says as the fault of the request."""
    return error if isinstance(error, RequestError) else RequestError(str(error))


def llama_form(error: RequestError) -> dict[str, Any]:
    """llama.cpp's: {"error": {"code", "message", "type"}}."""
    kind = error.extra.get("type", _type(error))
    head = {"code": error.status, "message": str(error), "type": kind}
    return {"error": {**head, **error.extra}}


def openai_form(error: RequestError) -> dict[str, Any]:
    """OpenAI's: {"error": {"message", "type", "param", "code"}}."""
    return {
        "error": {
            "message": str(error),
            "type": _type(error),
            "param": error.field or None,
            "code": error.code or None,
        }
    }


def kobold_form(error: RequestError) -> dict[str, Any]:
    """KoboldCpp's: {"detail": {"msg", "type"}}."""
    return {"detail": {"msg": str(error), "type": _type(error)}}


def _type(error: RequestError) -> str:
    return _TYPES.get(error.status, "server_error" if error.status >= 500 else _TYPES[400])
