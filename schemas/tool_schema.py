"""Tools, as OpenAI's clients describe and call them."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from schemas.text import Name, Text

_STRICT = ConfigDict(extra="forbid", strict=True)


_DEEPEST = 64


def writable(schema: dict[str, Any]) -> dict[str, Any]:
    """The same object. Raises ValueError for one that is no JSON, or nested deeper than anybody needs."""
    # Whatever walks through it, a template for one, would end at Python's own limit.
    if _is_deeper(schema, _DEEPEST):
        raise ValueError(f"is nested deeper than {_DEEPEST} levels")
    # It becomes part of the prompt and of JSON, which can write neither NaN nor half a surrogate pair.
    try:
        json.dumps(schema, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise ValueError("holds what JSON cannot write") from error
    return schema


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 0 or _is_deeper(each, levels - 1) for each in inner)


JsonObject = Annotated[dict[str, Any], AfterValidator(writable)]


class FunctionTool(BaseModel):
    """A function that the caller can run.

    `strict` lets an answer fail whose arguments the schema does not allow; otherwise they may deviate from it.
    """

    model_config = _STRICT

    name: Name
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class ToolEntry(BaseModel):
    """A tool; all tools are functions."""

    model_config = _STRICT

    type: Literal["function"]
    function: FunctionTool


class NamedFunction(BaseModel):
    """A function by its name."""

    model_config = _STRICT

    name: Name


class ToolChoice(BaseModel):
    """How free the model is: on the wire `auto`, `none` or `required`, or this object for one function."""

    model_config = _STRICT

    type: Literal["auto", "none", "required", "function"]
    function: NamedFunction | None = None

    @model_validator(mode="after")
    def _names_what_it_has_to(self) -> "ToolChoice":
        if (self.type == "function") != (self.function is not None):
            raise ValueError("must be 'auto', 'none', 'required', or a function with its name")
        return self


def _choice(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) and value != "function" else value


class NamedToolChoice(BaseModel):
    """This function, as it is on the wire."""

    type: Literal["function"]
    function: NamedFunction


AnyToolChoice = Annotated[
    ToolChoice,
    BeforeValidator(_choice, json_schema_input_type=Literal["auto", "none", "required"] | NamedToolChoice),
]


class CalledFunction(BaseModel):
    """What the model wants to have called. `arguments` is a JSON object, as text."""

    model_config = _STRICT

    name: Name
    arguments: Annotated[Text, Field(max_length=1 << 20)]


class ToolCallEntry(BaseModel):
    """A call, by whose id its result comes back."""

    model_config = _STRICT

    id: Name
    type: Literal["function"] = "function"
    function: CalledFunction
