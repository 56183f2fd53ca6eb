"""Conversations as `/v1/conversations` shows them."""

from database.models import Conversation
from schemas.conversation_schema import ConversationView


def conversation_id(row_id: str) -> str:
    """The name of a conversation on these routes."""
    return f"conv_{row_id}"


def conversation_view(conversation: Conversation) -> ConversationView:
    """A conversation, without what was said in it."""
    return ConversationView(
        id=conversation_id(conversation.id),
        created_at=int(conversation.created_at.timestamp()),
        metadata=conversation.labels,
        user=conversation.user,
    )
