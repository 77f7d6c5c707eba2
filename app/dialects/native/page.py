"""GET /: a page to chat with the model in a browser, and its files under /page."""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

_FILES = StaticFiles(directory=Path(__file__).parents[2] / "web")

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "dompurify",
}
"""What a model writes is shown here: nothing but the page's own files runs, and it talks to nobody
but this server (https://www.w3.org/TR/CSP3/)."""

HEADERS = {
    "Content-Security-Policy": "; ".join(" ".join(each) for each in _POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # kept, but asked for again: its files belong together
}


@router.get("/")
async def page(request: Request) -> Response:
    """The page. It needs nothing from elsewhere."""
    return await file("index.html", request)


@router.get("/page/{name:path}")
async def file(name: str, request: Request) -> Response:
    """A file of the page.

    Raises:
        HTTPException: there is none of this name.
    """
    response = await _FILES.get_response(name, request.scope)
    response.headers.update(HEADERS)
    return response
