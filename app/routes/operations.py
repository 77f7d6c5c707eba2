"""GET /health and /metrics: for whoever runs the server."""

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from app.state import State

router = APIRouter()


class Health(BaseModel):
    """The server is ready."""

    status: str = "ok"
    slots: int
    active: int
    waiting: int


@router.get("/health", summary="Is the server ready?")
async def health(state: State) -> Health:
    """200 when requests are answered, 503 while the model is loading."""
    engine = state.served.engine
    return Health(slots=engine.config.n_slots, active=engine.n_running, waiting=engine.n_waiting)


@router.get("/metrics", summary="Prometheus metrics")
async def metrics(state: State) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(state.metrics.render(), media_type=CONTENT_TYPE_LATEST)
