"""What the endpoints share: the served model once it is loaded, metrics, the key."""

import secrets
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.errors import ApiError
from app.metrics import Metrics
from app.served import ServedModel

DEFAULT_ALIAS = "default"


class ServerState:
    """State of one server. The model arrives some time after the server has started.

    Args:
        metrics: the server's metrics.
        api_key: what clients must send; None lets everybody in.
    """

    def __init__(self, metrics: Metrics, api_key: str | None) -> None:
        self.metrics = metrics
        self.api_key = api_key
        self.loaded: ServedModel | None = None

    @property
    def served(self) -> ServedModel:
        """The served model.

        Raises:
            ApiError: 503 as long as it is loading.
        """
        if self.loaded is None:
            raise ApiError(
                503, "the model is still loading", kind="server_error", code="loading", retry=True
            )
        return self.loaded


def server_state(request: Request) -> ServerState:
    """The state of the server that handles a request."""
    state: ServerState = request.app.state.server
    return state


State = Annotated[ServerState, Depends(server_state)]

_bearer = HTTPBearer(auto_error=False, description="The key given with --api-key, if there is one")


def require_key(
    state: State,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> None:
    """Refuse requests without the server's key.

    Raises:
        ApiError: 401.
    """
    if state.api_key is None:
        return
    given = credentials.credentials if credentials else ""
    if not secrets.compare_digest(given.encode(), state.api_key.encode()):
        raise ApiError(
            401,
            "missing or wrong API key; send it as `Authorization: Bearer KEY`",
            kind="authentication_error",
            code="invalid_api_key",
        )


def served_model(state: State) -> ServedModel:
    """The served model, for endpoints that need it."""
    return state.served


Served = Annotated[ServedModel, Depends(served_model)]


def check_model_name(served: ServedModel, name: str) -> None:
    """Refuse names other than the served model's.

    Raises:
        ApiError: 404.
    """
    if name not in (served.name, DEFAULT_ALIAS):
        raise ApiError(
            404,
            f"the model {name!r} does not exist; this server has {served.name!r}",
            param="model",
            code="model_not_found",
        )
