"""Which web pages may use the server (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.request_ids import HEADER

_THIS_MACHINE = r"[a-z][a-z0-9+.-]*://(localhost|[a-z0-9-]+\.localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
_METHODS = ["GET", "HEAD", "POST", "DELETE", "OPTIONS"]
_EXPOSED = [HEADER, "retry-after"]
_MAX_AGE = 600  # seconds for which a browser need not ask again


def let_in_pages(app: FastAPI, origins: Sequence[str] | None) -> None:
    """Tell browsers whose pages may use the server; they ask before anything is done.

    Args:
        app: the server.
        origins: whose; "*" stands for all. None: those of this machine.
    """
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins or (),
        allow_origin_regex=_THIS_MACHINE if origins is None else None,
        allow_methods=_METHODS,
        allow_headers=["*"],
        expose_headers=_EXPOSED,
        max_age=_MAX_AGE,
    )
