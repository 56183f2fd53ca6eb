"""Small tokenizers, trained on the spot: SentencePiece as ChatGLM's, byte-level as GLM-4's and most others'."""

import io
import json
import random
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CHATML = (
    "{%- if messages[0].role != 'system' -%}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{%- endif -%}"
    "{%- for m in messages -%}"
    "{%- if m.role == 'system' and not loop.first -%}{{ raise_exception('system comes first') }}{%- endif -%}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
NASTY = [
    "",
    " ",
    "  two   three    four ",
    "\n",
    "\n\n\t\n",
    "a\nb",
    "你好，世界！",
    "今天 天气\u3000不错",
    "👨‍👩‍👧‍👦🇩🇪🇫🇷👍🏽❤️🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "e\u0301 क्‍ष",
    "12345 1 23 9.75",
    "nul\0in\0side",
    "שלום עולם مرحبا",
    "\u202eabc\u202c\ufeff",
    "<|user|><|assistant|>\n<|system|>",
    "[gMASK]sop<|observation|>eop",
    "philosophy sophisticated people",
    "</s><s><unk><0x0A><0x41>",
    "▁ ▁▁ a▁b",
    "\U0010ffff\u0378",
    "<|im_start|>system\nobey<|im_end|>",
]


def words(seed: int, count: int) -> list[str]:
    """Random sentences of Chinese, English, digits, punctuation."""
    source = random.Random(seed)
    han = [chr(code) for code in range(0x4E00, 0x4E00 + 400)]
    latin = [
        "the",
        "of",
        "philosophy",
        "people",
        "model",
        "answer",
        "token",
        "user",
        "assistant",
        "sophisticated",
        "world",
    ]
    sentences = []
    for _ in range(count):
        parts = ["".join(source.choices(han, k=source.randint(1, 9))) for _ in range(source.randint(1, 5))]
        parts += source.choices([*latin, "2024", "，", "\n"], k=source.randint(0, 6))
        source.shuffle(parts)
        sentences.append(source.choice(["", " "]).join(parts))
    return sentences


def hostile_strings(seed: int, count: int) -> list[str]:
    """Strings put together from what breaks tokenizers, and random code points."""
    source = random.Random(seed)
    pieces = [*NASTY, *words(seed, 50), " ", "  ", "\n"]
    code_points = [*range(0xD800), *range(0xE000, 0x30000, 7)]
    made = list(NASTY)
    while len(made) < count:
        parts = source.choices(pieces, k=source.randint(1, 4))
        parts.append("".join(map(chr, source.choices(code_points, k=3))))
        source.shuffle(parts)
        made.append("".join(parts))
    return made


def sentencepiece_model(size: int = 1200, *, byte_fallback: bool = True, add_dummy_prefix: bool = True) -> bytes:
    """A tokenizer.model with ChatGLM's settings, if not said otherwise."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words(1, 1500)),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        byte_fallback=byte_fallback,
        add_dummy_prefix=add_dummy_prefix,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        minloglevel=2,
    )
    return model.getvalue()


def write_chatglm3(directory: Path, model: bytes) -> Path:
    """The text side of an original ChatGLM3 directory."""
    (directory / "tokenizer.model").write_bytes(model)
    write_json(directory / "config.json", {"model_type": "chatglm", "eos_token_id": 2})
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "ChatGLMTokenizer"})
    return directory


def write_byte_level(directory: Path) -> Path:
    """A ChatML model's directory; `<think>` is an added token, but not a special one."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    backend.train_from_iterator(words(2, 500), trainer)
    backend.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    backend.save(str(directory / "tokenizer.json"))
    write_json(directory / "config.json", {"model_type": "llama", "eos_token_id": 0})
    write_json(directory / "generation_config.json", {"eos_token_id": [0, 2]})
    write_json(directory / "tokenizer_config.json", {"eos_token": "<|im_end|>", "chat_template": CHATML})
    return directory


def write_llama(directory: Path) -> Path:
    """A SentencePiece-like tokenizer.json with byte pieces, which marks the sequence's start only."""
    alphabet = sorted({c for sentence in words(3, 200) for c in sentence} - {" "})
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", *alphabet, "th", "the", "▁the"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [("t", "h"), ("th", "e"), ("▁", "the")]
    backend = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<unk>", "<s>", AddedToken("</s>", rstrip=True)])
    backend.save(str(directory / "tokenizer.json"))
    write_json(directory / "tokenizer_config.json", {"eos_token": {"content": "</s>"}, "bos_token": "<s>"})
    return directory


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
