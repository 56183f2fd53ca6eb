"""How tokens are drawn and where answers end: what the requests of all of OpenAI's routes to the model share."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from schemas.text import Text

_LARGEST = (1 << 63) - 1


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
StopString = Annotated[Text, Field(min_length=1, max_length=256)]
StopStrings = Annotated[
    list[StopString], BeforeValidator(_listed, json_schema_input_type=StopString | list[StopString])
]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]


class SamplingFields(BaseModel):
    """Fields of a request; null is as good as absent."""

    model_config = ConfigDict(extra="forbid", strict=True)

    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    n: int | None = Field(None, ge=1, le=128, description="How many answers.")
    stop: Annotated[StopStrings, Field(max_length=4)] | None = None
    seed: int | None = Field(None, ge=-_LARGEST, le=_LARGEST)
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[TokenId, Bias] | None = Field(None, max_length=1024)
    top_k: int | None = Field(None, ge=0, le=1_000_000, description="0 keeps all tokens.")
    min_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    repetition_penalty: float | None = Field(None, gt=0, le=10, allow_inf_nan=False)
    ignore_eos: bool | None = Field(None, description="Go on where the model would end its answer.")
