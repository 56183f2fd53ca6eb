"""The open routes: what this is, whether it lives, whether it can answer."""

from fastapi import Request, Response

from app.common.errors import ClockWrong, Unavailable
from app.controller.provided import Everything
from app.controller.router import Router
from app.version import NAME, VERSION
from schemas.health_schema import Alive, Readiness, Welcome
from services.inference.engine_refusal import EngineUnavailable

router = Router(tags=["health"])
DEMO_NOTICE = (
    "This is the bundled demo model: small, English only, often wrong. Set CHATGLM_MODEL to serve a ChatGLM model."
)


@router.get("/")
async def welcome(request: Request, provided: Everything) -> Welcome:
    """What this service is, and where to look next."""
    prefix = request.scope.get("root_path", "")
    try:
        model, demo = provided.chat.model, provided.engine.limits.demo
    except EngineUnavailable:
        model, demo = None, False
    return Welcome(
        message=f"{NAME} {VERSION}" + (f" serves {model}" if model else "") + f". See {prefix}/docs.",
        version=VERSION,
        model=model,
        docs=f"{prefix}/docs",
        health=f"{prefix}/healthz",
        ready=f"{prefix}/readyz",
        notice=DEMO_NOTICE if demo else None,
    )


@router.get("/healthz")
async def healthz() -> Alive:
    """Whether the process answers; touches nothing else."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not now."}})
async def readyz(response: Response, provided: Everything) -> Readiness:
    """Whether a turn can begin: engine, tokenizer and database are there."""
    if provided.shutdown.begun:
        response.status_code = 503
        return Readiness(status="stopping", detail="The service is stopping: what runs may end, nothing begins.")
    health = await provided.engine.health()
    if not health.ready:
        response.status_code = 503
        return Readiness(status="engine_unavailable", detail=health.detail)
    try:
        await provided.chat.text_codec()
        await provided.database.ping()
        if provided.runner.clock_is_wrong:
            raise ClockWrong
    except Unavailable as error:
        response.status_code = 503
        return Readiness(status=error.code or "unavailable", detail=error.message)
    return Readiness(status="ready", detail=health.detail)
