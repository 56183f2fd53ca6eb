"""A chat of another software as rows of this service: a conversation, its items, and a turn for each answer."""

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from database.identifier import first_id_at, part_id
from database.models import Conversation, Item, Tenant, Turn, TurnStatus, TurnText
from services.said_item import SaidItem, item_rows
from tools.data_migration.record import Chat, Record, Said, Unreadable
from tools.data_migration.row_json import check_storable

_LONGEST_NAME = 256
# Messages without a time of their own follow each other.
_STEP = timedelta(milliseconds=1)


class ChatRows:
    """Makes rows whose ids come from the tenant, the format and the record: the same at every import."""

    def __init__(self, tenant: Tenant, format_name: str, at: datetime | None) -> None:
        """`at`: when chats were made that do not say so."""
        self._tenant = tenant
        self._format = format_name
        self._at = at
        self._key = part_id(first_id_at(tenant.created_at), f"{tenant.id} imports")

    def record(self, chat: Chat) -> Record:
        """The rows of a chat. Raises Unreadable."""
        began = chat.at or next((said.at for said in chat.messages if said.at), None) or self._at
        if began is None:
            raise Unreadable("it does not say when it was made: give --at")
        digest = sha256(chat.identity).hexdigest()
        place = "" if self._format == "chatgpt" else str(chat.number)
        name = f"{self._tenant.id} {self._format} {place} {digest}"
        conversation = Conversation(
            id=part_id(first_id_at(began), name),
            length=0,
            labels=dict(chat.labels),
            created_at=began,
            used_at=began,
        )
        told = _Told(chat, conversation, self._key, f"import/{self._format}", began)
        rows = [conversation, *told.turns, *told.texts, *told.items]
        return Record(chat.number, chat.raw, rows, {self._key: "imports"})


class _Told:
    """What is said in a conversation, told message by message."""

    def __init__(self, chat: Chat, conversation: Conversation, key_id: str, endpoint: str, at: datetime) -> None:
        self.turns: list[Turn] = []
        self.texts: list[TurnText] = []
        self.items: list[Item] = []
        self._conversation = conversation
        self._key_id = key_id
        self._endpoint = endpoint
        self._model = chat.model
        self._at = at
        self._asked: list[Item] = []
        for number, said in enumerate(chat.messages):
            check_storable(said.text)
            self._at = max(self._at + _STEP, said.at or self._at) if number else said.at or self._at
            self._tell(number, said)
        conversation.length = len(self.items)
        conversation.used_at = self._at

    def _tell(self, number: int, said: Said) -> None:
        turn_id = part_id(first_id_at(self._at), f"{self._conversation.id} turn {number}")
        answers = said.role == "assistant"
        items = [
            Item(**row, created_at=self._at)
            for row in item_rows(
                self._said_items(number, said),
                len(self.items),
                conversation_id=self._conversation.id,
                turn_id=turn_id if answers else None,
            )
        ]
        self.items += items
        if not answers:
            self._asked += items
            return
        for item in self._asked:
            item.turn_id = turn_id
        self.turns.append(self._turn(turn_id))
        prompt = next((item.text for item in reversed(self._asked) if item.role == "user"), "")
        self.texts.append(TurnText(turn_id=turn_id, prompt=prompt, response=said.text))
        self._asked = []

    def _said_items(self, number: int, said: Said) -> list[SaidItem]:
        def item(part: int, **fields: Any) -> SaidItem:
            item_id = part_id(first_id_at(self._at), f"{self._conversation.id} item {number}.{part}")
            return SaidItem(id=item_id, role=said.role, answer=0 if said.role == "assistant" else None, **fields)

        if said.role == "tool":
            return [item(0, type="function_call_output", text=said.text, call_id=_name(said.call_id or ""))]
        message = [item(0, text=said.text)] if said.text or not said.calls else []
        for part, call in enumerate(said.calls, 1):
            check_storable(call.arguments)
            message.append(
                item(part, type="function_call", text=call.arguments, name=_name(call.name), call_id=_name(call.id))
            )
        return message

    def _turn(self, turn_id: str) -> Turn:
        return Turn(
            id=turn_id,
            conversation_id=self._conversation.id,
            key_id=self._key_id,
            endpoint=self._endpoint,
            model=self._model,
            parameters={},
            labels={},
            status=TurnStatus.COMPLETED,
            finish_reason="stop",
            prompt_tokens=0,
            created_at=self._at,
            finished_at=self._at,
        )


def _name(text: str) -> str:
    check_storable(text)
    if len(text) > _LONGEST_NAME:
        raise Unreadable(f"a name in it is longer than {_LONGEST_NAME} characters")
    return text
