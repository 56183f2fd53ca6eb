"""The READMEs say what is so: routes, bodies, commands, settings and links."""

import json
import re
import shlex
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from app.main import create_app
from app.settings import PREFIX, Settings
from schemas.chat_schema import Answer, NewMessage
from schemas.completion_request_schema import CompletionRequest
from schemas.history_schema import HistoryQuery
from schemas.response_request_schema import ResponseRequest
from schemas.text_completion_schema import TextCompletionRequest
from tests.commands import REPOSITORY, argument_lists, check_command
from tools.settings_table import with_table

NAMES = ["README.md", "README.zh-CN.md"]
TEXTS = {name: (REPOSITORY / name).read_text(encoding="utf-8") for name in NAMES}
DOCUMENTS = {
    **TEXTS,
    **{name: (REPOSITORY / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "docs/operations.md")},
}
OPEN_API_ITSELF = {"/docs", "/openapi.json"}
BASE = "http://127.0.0.1:8888"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def curls(text: str) -> list[list[str]]:
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("curl ")]


CURLS = [pytest.param(words, id=f"{name}-{at}") for name, text in TEXTS.items() for at, words in enumerate(curls(text))]
COMMANDS = {tuple(words) for text in DOCUMENTS.values() for words in argument_lists(text)}


@pytest.fixture(scope="module")
def routes() -> dict[str, set[str]]:
    """Each path of the API with its methods."""
    app = create_app(Settings(_env_file=None), secret=b"x" * 32, engine_socket=Path("/nonexistent"), instance="0" * 32)
    described = app.openapi()["paths"]
    return {path: {method.upper() for method in methods} for path, methods in described.items()}


def known(routes: dict[str, set[str]], path: str) -> str | None:
    """The route that serves a path."""
    patterns = {route: re.sub(r"\{\w+\}", "[0-9a-f]{32}", route) for route in routes}
    return next((route for route, pattern in patterns.items() if re.fullmatch(pattern, path)), None)


@pytest.mark.parametrize("words", CURLS)
def test_the_curl_examples_are_valid_requests(routes: dict[str, set[str]], words: list[str]) -> None:
    url = urlsplit(next(word for word in words if word.startswith(BASE)))
    route = known(routes, url.path)
    assert route is not None
    body = words[words.index("-d") + 1] if "-d" in words else None
    method = words[words.index("-X") + 1] if "-X" in words else "GET" if body is None else "POST"
    assert method in routes[route]
    headers = [words[at + 1] for at, word in enumerate(words) if word == "-H"]
    assert any(header in {"Authorization: Bearer $API_KEY", "x-api-key: $API_KEY"} for header in headers)
    if url.query:
        HistoryQuery.model_validate({name: values[0] for name, values in parse_qs(url.query).items()})
    if body is not None:
        assert "Content-Type: application/json" in headers, "curl would declare a form"
        message = NewMessage.model_validate_json(body)
        assert bool(message.stream) == ("-N" in words)


@pytest.mark.parametrize("text", TEXTS.values(), ids=NAMES)
def test_the_examples_in_other_languages_ask_as_the_curl_ones_do(routes: dict[str, set[str]], text: str) -> None:
    for language in ("python", "javascript", "java", "go"):
        (example,) = blocks(text, language)
        (url,) = re.findall(rf'"{BASE}(/[^"]*)"', example)
        assert "POST" in routes[url]
        written = example.replace("True", "true").replace('\\"', '"')
        written = re.sub(r"\b(prompt|stream):", r'"\1":', written)
        (body,) = re.findall(r'\{\s*"prompt".*?\}', written)
        assert NewMessage.model_validate_json(body).stream
    compile(blocks(text, "python")[0], "README", "exec")


@pytest.mark.parametrize("text", TEXTS.values(), ids=NAMES)
def test_the_table_of_routes_is_complete(routes: dict[str, set[str]], text: str) -> None:
    listed = set(re.findall(r"`(GET|POST|DELETE|PATCH|PUT) (/[^`]*)`", text))
    described = {(method, path) for path, methods in routes.items() for method in methods}
    assert {(method, path) for method, path in listed if path not in OPEN_API_ITSELF} == described


@pytest.mark.parametrize("text", TEXTS.values(), ids=NAMES)
def test_the_parameters_are_the_schemas(text: str) -> None:
    paragraphs = text.split("\n\n")
    for start, schema in (
        ("**`POST /chat/new/message/`**", NewMessage),
        ("**`GET /chat/get/messages/`**", HistoryQuery),
        ("**`POST /v1/completions`**", TextCompletionRequest),
    ):
        (paragraph,) = (one for one in paragraphs if one.startswith(start))
        assert schema.model_fields.keys() <= set(re.findall(r"`(\w+)`", paragraph))
    (answer,) = blocks(text, "json")
    assert Answer.model_validate(json.loads(answer)).model_dump().keys() == json.loads(answer).keys()


@pytest.mark.parametrize("text", TEXTS.values(), ids=NAMES)
def test_what_openais_clients_may_send_is_listed(text: str) -> None:
    (section,) = re.findall(r"^## OpenAI.*?(?=^## )", text, re.MULTILINE | re.DOTALL)
    fields = CompletionRequest.model_fields.keys() - {"messages", "model"}
    of_chat, _, _ = section.partition("**`POST /v1/completions`**")
    assert fields <= set(re.findall(r"`(\w+)(?:: \w+)?`", of_chat))
    _, _, of_responses = section.partition("**`POST /v1/responses`**")
    fields = ResponseRequest.model_fields.keys() - {"model"}
    assert fields <= set(re.findall(r"`(\w+)(?:: \w+)?`", of_responses))
    (example,) = blocks(section, "py")
    compile(example, "README", "exec")


@pytest.mark.parametrize("text", TEXTS.values(), ids=NAMES)
def test_the_error_codes_are_the_codes_of_the_code(text: str) -> None:
    rows = re.findall(r"^\| \d{3} \| (.*?) \|", text, re.MULTILINE)
    listed = set(re.findall(r"`(\w+)`", " ".join(rows)))
    paths = [path for folder in ("app", "services") for path in (REPOSITORY / folder).rglob("*.py")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    assert listed == {code for code in listed if f'"{code}"' in source}
    used = set(re.findall(r'^    code(?:: str \| None)? = "(\w+)"', source, re.MULTILINE))
    used |= set(re.findall(r'\bcode="(\w+)"', source))
    assert used <= listed


@pytest.mark.parametrize("name", NAMES)
def test_the_table_of_settings_is_current(name: str) -> None:
    assert with_table(TEXTS[name]) == TEXTS[name]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_setting_named_exists(name: str) -> None:
    names = set(re.findall(rf"{PREFIX}[A-Z_]*[A-Z]", DOCUMENTS[name]))
    assert names <= {f"{PREFIX}{field}".upper() for field in Settings.model_fields}


@pytest.mark.parametrize("arguments", sorted(COMMANDS), ids=" ".join)
def test_every_command_exists(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # The files that are imported.
    monkeypatch.chdir(tmp_path)
    for name in ("acme.jsonl", "wrapper.log"):
        (tmp_path / name).touch()
    # Which the guide exports first.
    for variable in ("COPY_FROM", "COPY_TO"):
        monkeypatch.setenv(variable, "sqlite:///somewhere.db")
    check_command(list(arguments))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_and_every_file_linked_exists(name: str) -> None:
    targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:`|^ *|=\S+ )make ([a-z]+)\b", DOCUMENTS[name], re.MULTILINE)) <= set(targets)
    for target in re.findall(r"\]\(([^)#]+)\)", DOCUMENTS[name]):
        assert (REPOSITORY / target).exists()


def test_both_readmes_show_the_same() -> None:
    english, chinese = TEXTS.values()
    assert len(re.findall(r"^## ", english, re.MULTILINE)) + 1 == len(re.findall(r"^## ", chinese, re.MULTILINE))
    for pattern in (r"```nginx\n.*?```", r"```yaml\n.*?```", r"tools\.admin [^`\n]*", r"^\| `[^`]+`(?= \|)"):
        found = [re.findall(pattern, text, re.MULTILINE | re.DOTALL) for text in (english, chinese)]
        assert found[0] == found[1]


def test_the_tests_that_the_threat_model_names_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")))
    written = {
        name
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    assert named <= written
