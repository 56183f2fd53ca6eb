"""What the engine accepts: one bad request must not end the step it is in, or on CUDA the whole process."""

import math

from services.inference.engine import GenerationRequest, SamplingParams

MOST_ANSWERS = 128
MOST_ALTERNATIVES = 20
_LARGEST_BIAS = 1e4


def fault(request: GenerationRequest, vocabulary: int) -> str | None:
    """What is wrong with a request, in a sentence for the caller; None if it can be run."""
    if not request.prompt_ids or not all(0 <= token < vocabulary for token in request.prompt_ids):
        return f"The prompt must be token ids of the model's vocabulary, 0 to {vocabulary - 1}."
    if request.max_tokens < 0:
        return "max_tokens must be at least 0."
    if not 1 <= request.n <= MOST_ANSWERS:
        return f"n must be from 1 to {MOST_ANSWERS}."
    if not 0 < request.weight < math.inf:
        return "weight must be above 0."
    return _sampling_fault(request.sampling, vocabulary)


def _sampling_fault(params: SamplingParams, vocabulary: int) -> str | None:
    bounds = {
        "temperature must be at least 0": 0 <= params.temperature < math.inf,
        "top_p must be above 0 and at most 1": 0 < params.top_p <= 1,
        "top_k must be at least 0": params.top_k >= 0,
        "min_p must be from 0 to 1": 0 <= params.min_p <= 1,
        "repetition_penalty must be above 0": 0 < params.repetition_penalty < math.inf,
        "frequency_penalty must be a number": math.isfinite(params.frequency_penalty),
        "presence_penalty must be a number": math.isfinite(params.presence_penalty),
        f"logit_bias must be of the model's token ids, 0 to {vocabulary - 1}": all(
            0 <= token < vocabulary for token in params.logit_bias
        ),
        "logit_bias must be numbers": all(abs(bias) <= _LARGEST_BIAS for bias in params.logit_bias.values()),
        f"logprobs must be from 0 to {MOST_ALTERNATIVES}": all(
            0 <= (wanted or 0) <= MOST_ALTERNATIVES for wanted in (params.logprobs, params.prompt_logprobs)
        ),
    }
    return next((f"{rule}." for rule, kept in bounds.items() if not kept), None)
