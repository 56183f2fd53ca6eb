"""`/v1/models`: which models the caller may use."""

from app.controller.auth import ChatCaller
from app.controller.provided import Chat
from app.controller.responses import REFUSALS
from app.controller.router import Router
from app.version import NAME
from schemas.model_schema import ModelEntry, ModelList
from services.chat_service import ChatService

router = Router(prefix="/v1/models", tags=["models"], responses=REFUSALS)


@router.get("")
async def list_models(caller: ChatCaller, chat: Chat) -> ModelList:
    """The models that the key may use."""
    return ModelList(data=[_entry(name, chat) for name in chat.models(caller)])


@router.get("/{model:path}")
async def get_model(model: str, caller: ChatCaller, chat: Chat) -> ModelEntry:
    """One of them."""
    chat.check_model(caller, model)
    return _entry(model, chat)


def _entry(name: str, chat: ChatService) -> ModelEntry:
    return ModelEntry(id=name, created=chat.since, owned_by=NAME)
