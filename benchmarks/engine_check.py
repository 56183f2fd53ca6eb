"""Whether the CUDA path computes what transformers does, by every attention and in every kind of step."""

import gc
import time

import torch
from transformers import PreTrainedModel

from benchmarks.engine_check_sampler import check_sampler
from benchmarks.engine_check_scores import check_scores
from benchmarks.engine_load import Driver, Run, prompts
from benchmarks.engine_model import device_core, random_model
from services.inference.engine import SamplingParams
from services.inference.native.device import choose_attention
from services.inference.native.paged import Backend

GREEDY = SamplingParams(temperature=0.0)
# In steps of bf16 at the likeliest token's logit.
TOLERANCE = 4
LAYERS = 4


def check() -> bool:
    """Print a line for each case; whether all of them hold."""
    reference = random_model(LAYERS)
    vocabulary = reference.config.vocab_size
    mixed = [prompts(1, length, vocabulary, length)[0] for length in (1, 7, 64, 65, 200, 513, 1030)]
    long = prompts(2, 7000, vocabulary, 9)
    fastest = choose_attention(reference.device)[0]
    backends: list[Backend] = ["triton", "sdpa"]
    if fastest not in backends:
        backends = ["flash", "mixed", *backends]
    good = _draws() & check_sampler()
    for backend in backends:
        for compiled in (False, True) if backend != "sdpa" else (False,):
            name = f"{backend}{' compiled' if compiled else ''}"
            core = device_core(
                random_model(LAYERS),
                blocks=300,
                seats=8,
                step_tokens=4096,
                attention=backend,
                compiled=compiled,
            )
            driver = Driver(core)
            good &= report(f"{name}: mixed lengths", reference, mixed, driver.run(mixed, 40, GREEDY))
            good &= report(f"{name}: the same, prefixes shared", reference, mixed, driver.run(mixed, 40, GREEDY))
            good &= report(f"{name}: long contexts", reference, long, driver.run(long, 40, GREEDY))
            good &= check_scores(f"{name}: prompts scored", reference, [*mixed, long[0]], driver)
            for prompt in mixed:
                good &= report(f"{name}: {len(prompt)} alone", reference, [prompt], driver.run([prompt], 8, GREEDY))
            driver.close()
            del core, driver
            _free()
    for name, blocks, step_tokens in (("chunks of 100", 300, 108), ("cache too small", 22, 4096)):
        core = device_core(random_model(LAYERS), blocks=blocks, seats=8, step_tokens=step_tokens, window=1408)
        driver = Driver(core)
        good &= report(f"{fastest}: {name}", reference, mixed, driver.run(mixed, 80, GREEDY))
        driver.close()
        del core, driver
        _free()
    return good


def report(name: str, reference: PreTrainedModel, asked: list[list[int]], run: Run) -> bool:
    """Compare each chosen token with transformers' own logits over the same text.

    How far a choice lies below the likeliest token is counted in steps of bf16 at that token's logit, because both
    sides round their logits to such steps: half a step each for either of the two logits, and as much again from each
    side's hidden states, which are rounded in bf16 after every product. An error in what is attended to or in a
    position moves a logit by its standard deviation, 30 steps and more.
    """
    begin = time.perf_counter()
    worst, same, count = 0.0, 0, 0
    with torch.inference_mode():
        for index, prompt in enumerate(asked):
            answer = run.answers[str(index)]
            ids = torch.tensor([prompt + answer[:-1]], device=reference.device)
            logits = reference(input_ids=ids, use_cache=False, logits_to_keep=len(answer)).logits[0].float()
            chosen = logits.gather(1, torch.tensor(answer, device=logits.device)[:, None])[:, 0]
            best = logits.amax(-1)
            gaps = (best - chosen) / torch.exp2(best.abs().log2().floor() - 7)
            worst = max(worst, float(gaps.max()))
            same += int((gaps == 0).sum())
            count += len(answer)
    fine = worst <= TOLERANCE and count > 0
    took = run.seconds + time.perf_counter() - begin
    print(
        f"{'ok  ' if fine else 'FAIL'} {name}: {same}/{count} the same, largest gap {worst:.1f} steps ({took:.1f} s)",
        flush=True,
    )
    return fine


def _draws() -> bool:
    """Compare drawn tokens with those at the same points of a sorted, exact distribution, in float64."""
    from services.inference.native.kernels.draw import draw  # noqa: PLC0415  needs Triton

    generator = torch.Generator("cuda").manual_seed(1)
    rows, vocabulary = 256, 65024
    logits = (torch.randn(rows, vocabulary, device="cuda", generator=generator) * 4).bfloat16()
    good = True
    for temperature, top_p, top_k in ((0.8, 0.8, 0), (1.0, 1.0, 0), (1.0, 1.0, 50), (1.3, 0.9, 200)):
        points = torch.rand(rows, device="cuda", generator=generator)
        settings = torch.tensor([[temperature, top_p, 0.0, 0.0, top_k]], device="cuda").repeat(rows, 1)
        settings[:, 3] = points
        tokens, usable = draw(logits, settings)
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(20):
            draw(logits, settings)
        torch.cuda.synchronize()
        took = (time.perf_counter() - begin) / 20
        # Ties at a threshold are kept, as a threshold keeps them.
        scaled = logits.double() / temperature
        ordered = scaled.sort(-1, descending=True).values
        if top_k:
            scaled = scaled.masked_fill(scaled < ordered[:, top_k - 1 : top_k], -torch.inf)
            ordered = scaled.sort(-1, descending=True).values
        weights = ordered.softmax(-1)
        kept = ((weights.cumsum(-1) - weights) < top_p).sum(-1, keepdim=True)
        scaled = scaled.masked_fill(scaled < ordered.gather(1, kept - 1), -torch.inf)
        edges = scaled.softmax(-1).cumsum(-1)
        exact = torch.searchsorted(edges, points.double()[:, None] * edges[:, -1:], right=True)[:, 0]
        same = int((tokens == exact).sum())
        fine = same >= rows * 0.98 and bool(usable.all())
        good &= fine
        setting = f"temperature {temperature}, top_p {top_p}, top_k {top_k}"
        print(f"{'ok  ' if fine else 'FAIL'} draw: {setting}: {same}/{rows} the same, {took * 1e6:.0f} us", flush=True)
    return good


def _free() -> None:
    gc.collect()
    torch.cuda.empty_cache()
