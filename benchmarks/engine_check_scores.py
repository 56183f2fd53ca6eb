"""Whether the CUDA path gives prompts the log-probabilities that transformers does."""

import torch
from transformers import PreTrainedModel

from benchmarks.engine_load import Driver
from services.inference.engine import SamplingParams

SCORED = SamplingParams(temperature=0.0, prompt_logprobs=1)
# In steps of bf16 at the likeliest token's logit: on the average and at the worst of thousands of tokens. Both sides
# round, and each sums over a vocabulary of rounded logits; the token beside the right one is 30 steps away and more.
MEAN, WORST = 1.0, 10.0


def check_scores(name: str, reference: PreTrainedModel, asked: list[list[int]], driver: Driver) -> bool:
    """Print how far the scores of some prompts lie from transformers' own; whether that is rounding."""
    run = driver.run(asked, 0, SCORED)
    gaps: list[torch.Tensor] = []
    with torch.inference_mode():
        for index, prompt in enumerate(asked):
            said = run.scores.get(str(index), [])
            if len(said) != len(prompt) - 1:
                print(f"FAIL {name}: {len(said)} scores of {len(prompt)} tokens", flush=True)
                return False
            ids = torch.tensor([prompt], device=reference.device)
            logits = reference(input_ids=ids, use_cache=False).logits[0, :-1].float()
            if not said:
                continue
            exact = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
            steps = torch.exp2(logits.amax(-1).abs().log2().floor() - 7)
            gaps.append((torch.tensor(said, device=exact.device) - exact).abs() / steps)
    every = torch.cat(gaps)
    mean, worst = float(every.mean()), float(every.max())
    fine = mean <= MEAN and worst <= WORST
    print(
        f"{'ok  ' if fine else 'FAIL'} {name}: {len(every)} scores, {mean:.2f} steps off on the average, "
        f"{worst:.1f} at the worst ({run.seconds:.1f} s)",
        flush=True,
    )
    return fine
