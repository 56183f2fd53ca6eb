"""The Triton kernels against plain torch, in Triton's interpreter where there is no GPU; skipped without Triton."""

import random

import pytest
import torch

pytest.importorskip("triton")

from services.inference.engine import GenerationRequest, SamplingParams
from services.inference.native.kernels.change import change
from services.inference.native.kernels.draw import draw
from services.inference.native.kernels.paged_attention import paged_attention, tile_tokens
from services.inference.native.kernels.product import product
from services.inference.native.kernels.rotate import rotate_and_store
from services.inference.native.penalties import IN_PROMPT, Penalties
from services.inference.native.self_check import differs
from services.inference.native.sequence import Chunk, Sequence
from tests.test_services.test_inference.test_native.conftest import tiny_model
from tests.test_services.test_inference.test_native.driving import GREEDY, request
from tests.test_services.test_inference.test_native.test_device_runner import drive_fused
from tests.test_services.test_inference.test_native.test_prompt_scores import assert_exact
from tests.test_services.test_inference.test_native.test_runner import generated

# The interpreter's own, with newer releases of numpy.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize(("heads", "groups"), [(6, 2), (16, 1), (4, 4)])
@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("decode", [True, False])
def test_paged_attention_equals_attention_over_the_gathered_context(
    heads: int, groups: int, splits: int, *, decode: bool
) -> None:
    dice, size, width = random.Random(1), 4, 16
    generator = torch.Generator().manual_seed(1)
    chunks = [(1, 9), (1, 70), (1, 1)] if decode else [(5, 5), (7, 90), (1, 30), (40, 40)]
    keys, values = torch.randn(2, 80, size, groups, width, generator=generator).to(DEVICE)
    query = torch.randn(sum(count for count, _ in chunks), heads, width, generator=generator).to(DEVICE)
    tables = torch.zeros(len(chunks) + 1, 30, dtype=torch.int32)
    rows, tiles, expected, first = [], [], [], 0
    tokens = tile_tokens(heads, groups, decode=decode)
    for row, (count, length) in enumerate(chunks):
        blocks = dice.sample(range(80), -(-length // size))
        tables[row + 1, : len(blocks)] = torch.tensor(blocks)
        rows.append([first, count, length, row + 1])
        tiles += [[row, at] for at in range(0, count, tokens)]
        k, v = (each[blocks].flatten(0, 1)[:length].transpose(0, 1) for each in (keys, values))
        mask = torch.ones(count, length, dtype=torch.bool, device=DEVICE).tril_(length - count)
        mine = query[first : first + count].transpose(0, 1)
        k, v = (each.repeat_interleave(heads // groups, 0) for each in (k, v))
        out = torch.nn.functional.scaled_dot_product_attention(mine, k, v, attn_mask=mask, scale=0.3)
        expected.append(out.transpose(0, 1))
        first += count
    arguments = [torch.tensor(each, dtype=torch.int32, device=DEVICE).T.contiguous() for each in (rows, tiles)]
    out = paged_attention(query, keys, values, tables.to(DEVICE), *arguments, scale=0.3, tokens=tokens, splits=splits)
    torch.testing.assert_close(out, torch.cat(expected), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("rotary", [8, 16])
def test_queries_and_keys_are_rotated_and_the_new_tokens_written_to_their_cells(rotary: int) -> None:
    generator = torch.Generator().manual_seed(2)
    heads, groups, width, packed = 3, 2, 16, 4
    qkv = torch.randn(packed, heads + 2 * groups, width, generator=generator).to(DEVICE)
    cosines, sines = torch.randn(2, 10, rotary // 2, generator=generator).to(DEVICE)
    positions = torch.tensor([9, 0, 3, 3], dtype=torch.int32, device=DEVICE)
    cells = torch.tensor([7, 2, 11, 0], dtype=torch.int32, device=DEVICE)
    keys, values = torch.zeros(2, 3, 4, groups, width, device=DEVICE)
    query = rotate_and_store(qkv, keys, values, cosines, sines, positions, cells)
    cosine, sine = (each[positions.long()].unsqueeze(1) for each in (cosines, sines))
    low, high, rest = qkv[..., : rotary // 2], qkv[..., rotary // 2 : rotary], qkv[..., rotary:]
    turned = torch.cat([low * cosine - high * sine, high * cosine + low * sine, rest], -1)
    torch.testing.assert_close(query, turned[:, :heads])
    torch.testing.assert_close(keys.flatten(0, 1)[cells.long()], turned[:, heads : heads + groups])
    torch.testing.assert_close(values.flatten(0, 1)[cells.long()], qkv[:, heads + groups :])
    assert int((keys.flatten(0, 1).abs().sum((1, 2)) > 0).sum()) == packed


@pytest.mark.parametrize(
    ("temperature", "top_p", "min_p", "top_k"),
    [(1, 1, 0, 0), (0.7, 0.8, 0, 0), (1.5, 1, 0, 5), (1, 0.7, 0, 9), (2, 1, 0.2, 0), (0.5, 1e-6, 0, 0)],
)
def test_a_draw_is_the_token_at_its_point_of_the_exact_distribution(
    temperature: float, top_p: float, min_p: float, top_k: int
) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = (torch.randn(37, generator=generator) * 2).tolist()
    order = sorted(range(37), key=lambda token: -logits[token])[: top_k or 37]
    weights = torch.tensor([logits[token] / temperature for token in order]).softmax(0).tolist()
    kept, reached = set(), 0.0
    for token, weight in zip(order, weights, strict=True):
        if reached < top_p and weight >= min_p * weights[0]:
            kept.add(token)
        reached += weight
    edges = torch.tensor([dict(zip(order, weights, strict=True))[token] if token in kept else 0 for token in range(37)])
    edges = edges.double().cumsum(0)
    points = [0.0, 0.1, 0.35, 0.5, 0.77, 0.999]
    settings = torch.tensor([[temperature, top_p, min_p, point, top_k] for point in points], device=DEVICE)
    tokens, usable = draw(torch.tensor(logits, device=DEVICE).repeat(len(points), 1), settings)
    assert usable.tolist() == [1] * len(points)
    scaled = torch.tensor(points).double() * edges[-1]
    assert tokens.tolist() == torch.searchsorted(edges, scaled, right=True).tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_draws_from_bf16_are_those_from_the_same_numbers_in_float32(temperature: float) -> None:
    generator = torch.Generator().manual_seed(4)
    logits = (torch.randn(24, 300, generator=generator) * 4).bfloat16().to(DEVICE)
    points = torch.rand(24, generator=generator).tolist()
    for top_k in (0, 7):
        settings = torch.tensor([[temperature, 0.8, 0.0, point, top_k] for point in points], device=DEVICE)
        narrow, wide = (draw(each, settings)[0] for each in (logits, logits.float()))
        assert narrow.tolist() == wide.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_changed_in_one_pass_as_by_plain_torch(dtype: torch.dtype) -> None:
    generator, vocabulary, seats = torch.Generator().manual_seed(6), 1100, 4
    penalties = Penalties(seats, vocabulary, torch.device(DEVICE))
    params = SamplingParams(repetition_penalty=1.3, frequency_penalty=0.4, presence_penalty=0.2, logit_bias={7: 2.5})
    asked = GenerationRequest(id="r", tenant="t", prompt_ids=[1, 9, 9], max_tokens=9, sampling=params)
    penalties.seat(Chunk(Sequence(asked, slot=2, output=[5, 5, 1000]), 5, 1, 2, 1, samples=True))
    logits = (torch.randn(3, vocabulary, generator=generator) * 3).to(dtype).to(DEVICE)
    allowed = torch.rand(1, 1120, generator=generator) < 0.5
    words = (allowed.view(-1, 32).long() << torch.arange(32)).sum(-1).to(torch.int32)[None].to(DEVICE)
    expected = logits.float().clone()
    expected[1] = expected[1].masked_fill(~allowed[0, :vocabulary].to(DEVICE), float("-inf"))
    expected[1:2] = penalties.apply(expected[1:2], torch.tensor([2], device=DEVICE))
    changed = change(
        logits,
        torch.tensor([-1, 2, -1], device=DEVICE),
        torch.tensor([-1, 0, -1], device=DEVICE),
        words,
        penalties.tables,
        in_prompt=IN_PROMPT,
    )
    torch.testing.assert_close(changed, expected)
    assert not torch.equal(changed[1], logits[1].float())


@pytest.mark.parametrize(("rows", "width"), [(10, 24), (6, 1100)])
def test_a_single_tokens_product_equals_the_linear_layer(rows: int, width: int) -> None:
    generator = torch.Generator().manual_seed(5)
    x, weight, bias, residual = (
        torch.randn(shape, generator=generator).to(DEVICE) for shape in ((1, width), (rows, width), (rows,), (1, rows))
    )
    expected = torch.nn.functional.linear(x, weight)
    torch.testing.assert_close(product(x, weight), expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(product(x, weight, bias, residual), expected + bias + residual, atol=1e-3, rtol=1e-4)
    gate, up = expected.chunk(2, -1)
    wanted = torch.nn.functional.silu(gate) * up
    torch.testing.assert_close(product(x, weight, gated=True), wanted, atol=1e-2, rtol=1e-4)


def test_rows_that_are_not_usable_say_so_and_greedy_takes_the_likeliest() -> None:
    logits = torch.zeros(4, 20)
    logits[0, 7] = 1.0
    logits[1, 3] = float("nan")
    logits[2, 3] = float("inf")
    logits[3] = float("-inf")
    settings = torch.tensor([[0.0, 1.0, 0.0, 0.5, 0.0]] * 4)
    tokens, usable = draw(logits.to(DEVICE), settings.to(DEVICE))
    assert usable.tolist() == [1, 0, 0, 0]
    assert tokens[0] == 7


@pytest.mark.skipif(DEVICE == "cuda", reason="the tiny models are on CPU, where only the interpreter runs")
@pytest.mark.parametrize("products", [False, True])
@pytest.mark.parametrize("kind", ["llama", "glm"])
def test_a_whole_model_on_the_kernels_answers_as_transformers_does(kind: str, *, products: bool) -> None:
    dice = random.Random(6)
    driven = drive_fused(kind, backend="triton", step_tokens=13, products=products)
    scored = SamplingParams(temperature=0, prompt_logprobs=3)
    asked = [
        request(str(length), [dice.randrange(97) for _ in range(length)], 5, sampling=sampling)
        for length, sampling in ((1, GREEDY), (9, GREEDY), (30, scored))
    ]
    for each in asked:
        driven.core.submit(each)
    driven.finish()
    model = tiny_model(kind, "sdpa")
    assert [driven.text(each.id) for each in asked] == [generated(model, each) for each in asked]
    assert_exact(driven, kind, asked[-1])


def test_the_kernels_pass_the_check_at_start() -> None:
    device = torch.device(DEVICE)
    # The interpreter does not know bfloat16.
    dtype = torch.bfloat16 if DEVICE == "cuda" else torch.float32
    assert differs("triton", heads=6, groups=2, width=32, size=16, dtype=dtype, device=device) is None
