"""GET /health and /metrics: for whoever runs the server."""

from fastapi import Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from app.dialects.dialect import service_of
from app.dialects.openai.errors import OPENAI
from app.host import State

router = OPENAI.router(guarded=False)


class Health(BaseModel):
    """The server is ready; the numbers are those of the models in memory."""

    status: str = "ok"
    models: dict[str, State]
    slots: int
    active: int
    waiting: int


@router.get("/health", summary="Is the server ready?")
@router.get("/v1/health", include_in_schema=False)
async def health(request: Request) -> Health:
    """200 when requests are answered, 503 while the first model is loading."""
    hosts = service_of(request).hosts
    hosts.check_started()
    stats = hosts.stats()
    return Health(
        models={host.name: host.state for host in hosts.all},
        slots=stats.slots,
        active=stats.running,
        waiting=stats.waiting,
    )


@router.get("/metrics", response_class=PlainTextResponse, summary="Prometheus metrics")
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(service_of(request).metrics.render(), media_type=CONTENT_TYPE_LATEST)
