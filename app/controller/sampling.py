"""From the fields of a request to how the engine draws."""

from schemas.sampling_schema import SamplingFields
from services.inference.engine import SamplingParams

_NAMED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty")


def sampling(body: SamplingFields) -> SamplingParams:
    """What is given, and the engine's own values for the rest."""
    given = {name: value for name in _NAMED if (value := getattr(body, name)) is not None}
    biases = {int(token): bias for token, bias in (body.logit_bias or {}).items()}
    return SamplingParams(**given, seed=body.seed, logit_bias=biases)
