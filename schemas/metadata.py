"""A caller's own labels, which OpenAI calls metadata."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.text import Text

Metadata = Annotated[
    dict[Annotated[Text, Field(max_length=64)], Annotated[Text, Field(max_length=512)]], Field(max_length=16)
]
_PAIR = re.compile(r"metadata\[(.*)\]", re.DOTALL)


class MetadataFilter(BaseModel):
    """Which labels to look for; in a query, `metadata[key]=value` for each."""

    model_config = ConfigDict(extra="forbid")

    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, query: Any) -> Any:
        if not isinstance(query, dict):
            return query
        pairs = {match[1]: query[name] for name in query if (match := _PAIR.fullmatch(name))}
        rest = {name: value for name, value in query.items() if not _PAIR.fullmatch(name)}
        return rest | {"metadata": pairs} if pairs else rest


class MetadataChange(BaseModel):
    """Labels in place of those that there are; null for none."""

    model_config = ConfigDict(extra="forbid", strict=True)

    metadata: Metadata | None
