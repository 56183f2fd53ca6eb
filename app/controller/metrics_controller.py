"""What Prometheus reads."""

from fastapi import Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from app.controller.auth import RequireToken
from app.controller.router import Router


def metrics_router(registry: CollectorRegistry, token: str) -> Router:
    """The route, for whoever has this token."""
    router = Router(dependencies=[Depends(RequireToken(token))])

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
