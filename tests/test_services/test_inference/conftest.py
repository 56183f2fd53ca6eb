from pathlib import Path

import pytest

from services.inference.tokenizer import Tokenizer, load_tokenizer
from tests.test_services.test_inference import vocabularies


@pytest.fixture(scope="session")
def chatglm3_model() -> bytes:
    return vocabularies.sentencepiece_model()


@pytest.fixture(scope="session")
def chatglm3(tmp_path_factory: pytest.TempPathFactory, chatglm3_model: bytes) -> Path:
    return vocabularies.write_chatglm3(tmp_path_factory.mktemp("chatglm3"), chatglm3_model)


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vocabularies.write_byte_level(tmp_path_factory.mktemp("chatml"))


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vocabularies.write_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def tokenizers(chatglm3: Path, byte_level: Path, llama: Path) -> dict[str, Tokenizer]:
    return {
        name: load_tokenizer(path) for name, path in (("chatglm", chatglm3), ("chatml", byte_level), ("llama", llama))
    }
