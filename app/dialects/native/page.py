"""GET /: a page to chat with the model in a browser."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

router = APIRouter(include_in_schema=False)
_PAGE = Path(__file__).parents[2] / "web" / "index.html"


@router.get("/")
async def page() -> FileResponse:
    """The page, one file without anything from elsewhere."""
    return FileResponse(_PAGE)
