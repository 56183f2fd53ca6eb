"""The Dockerfile and compose.yaml, checked without a Docker engine."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from app.settings import PREFIX, Settings
from app.version import VERSION
from tests.commands import REPOSITORY, argument_lists, check_command

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE_TEXT = (REPOSITORY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
EXAMPLE = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if name != "db"}
SETTINGS = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
PINNED = re.compile(r"^[^:@]+(?::\d+/[^:@]+)?:(?!latest)[\w.-]*\d[\w.-]*$")


@dataclass(frozen=True)
class Instruction:
    name: str
    arguments: str


def read_stages(text: str) -> list[list[Instruction]]:
    """The instructions of each stage; what stands before the first is the first of the list."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages: list[list[Instruction]] = [[]]
    for line in filter(str.strip, joined.splitlines()):
        name, _, arguments = line.strip().partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append(Instruction(name, arguments.strip()))
    return stages


PREAMBLE, *STAGES = read_stages(DOCKERFILE)
FINAL = STAGES[-1]
COPIES = [copy.arguments for stage in STAGES for copy in stage if copy.name in {"COPY", "ADD"}]


def arguments_of(name: str, stage: list[Instruction] = FINAL) -> list[str]:
    return [instruction.arguments for instruction in stage if instruction.name == name]


def exec_form(arguments: str) -> list[str]:
    command = json.loads(arguments)
    assert isinstance(command, list)
    return [str(word) for word in command]


def test_several_stages_and_every_base_image_is_pinned_and_can_come_from_a_mirror() -> None:
    assert len(STAGES) > 1
    defaults = dict(arguments.split("=", 1) for arguments in arguments_of("ARG", PREAMBLE))
    for stage in STAGES:
        image = stage[0].arguments.split(" AS ")[0]
        assert image.startswith("${REGISTRY}/")
        assert PINNED.match(image.replace("${REGISTRY}", defaults["REGISTRY"]))


def test_the_service_does_not_run_as_root() -> None:
    user = arguments_of("USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number, by which an orchestrator can tell that it is not root"
    names = [instruction.name for instruction in FINAL]
    assert names.index("USER") > max(at for at, name in enumerate(names) if name in {"RUN", "COPY"})


def test_the_commands_are_in_exec_form_and_known() -> None:
    assert exec_form(arguments_of("CMD")[-1]) == ["python", "-m", "app"]
    check = arguments_of("HEALTHCHECK")[-1]
    assert exec_form(check.partition(" CMD ")[2]) == ["python", "-m", "tools.healthcheck"]
    assert not arguments_of("ENTRYPOINT")


def test_the_final_stage_builds_nothing_and_installs_a_compiler_at_the_most() -> None:
    text = " ".join(arguments_of("RUN"))
    assert re.findall(r"apt-get install --yes ([^&]*?) *&&", text) == ["--no-install-recommends $COMPILER"]
    assert not re.search(r"\b(apk|gcc|g\+\+|make|cmake|build-essential|pip|uv|curl|wget|git)\b", text)
    assert 'COMPILER="gcc libc6-dev"' in arguments_of("ARG")


@pytest.mark.parametrize(("profile", "compiler"), [("cpu", ""), ("gpu", None)])
def test_an_image_for_cpus_does_without_the_compiler(profile: str, compiler: str | None) -> None:
    assert SERVICES[profile]["build"]["args"].get("COMPILER") == compiler


def test_only_locked_packages_are_installed() -> None:
    installs = re.findall(r"pip install ([^&;]*)", " && ".join(arguments_of("RUN", STAGES[0])))
    assert [install.split()[-1] for install in installs] == [
        f"/requirements/{name}.txt" for name in ("engine", "torch", "demo", "otel")
    ]
    for install in installs:
        assert "--only-binary=:all:" in install, "nothing is compiled"
        assert "/torch.txt" in install or "--require-hashes --no-deps" in install


def test_what_sends_traces_is_installed_on_demand_and_of_the_versions_that_are_tested() -> None:
    (run,) = (run for run in arguments_of("RUN", STAGES[0]) if "otel.txt" in run)
    assert re.search(r'if \[ -n "\$TRACES" \]; then .*/otel\.txt; fi$', run)
    assert "TRACES=" in arguments_of("ARG", STAGES[0])
    for profile in ("cpu", "gpu"):
        assert SERVICES[profile]["build"]["args"]["TRACES"] == "${CHATGLM_OTLP_ENDPOINT:+yes}"
    pins = {name: (REPOSITORY / "requirements" / f"{name}.txt").read_text(encoding="utf-8") for name in ("otel", "dev")}
    sent, tested = (set(re.findall(r"^[\w.-]+==\S+", pins[name], re.MULTILINE)) for name in ("otel", "dev"))
    assert any(pin.startswith("opentelemetry-sdk==") for pin in sent)
    assert sent <= tested


@pytest.mark.parametrize("arguments", COPIES)
def test_what_is_copied_exists_and_is_sent_to_the_builder(arguments: str) -> None:
    words = shlex.split(arguments)
    if words[0].startswith("--from="):
        stage = words[0].removeprefix("--from=")
        assert any(stages[0].arguments.endswith(f" AS {stage}") for stages in STAGES)
        return
    for source in words[:-1]:
        assert (REPOSITORY / source).exists()
        assert is_sent(source)


def is_sent(path: str) -> bool:
    """By .dockerignore: the last pattern that matches the path, or something below it, decides."""
    sent = True
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip().removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        if fnmatch(path, pattern) or (line.startswith("!") and pattern.startswith(f"{path}/")):
            sent = line.startswith("!")
    return sent


@pytest.mark.parametrize("path", [".env", ".git", "data", "tests", ".venv"])
def test_secrets_and_data_stay_outside(path: str) -> None:
    assert not is_sent(path)


def test_every_package_the_service_imports_is_copied() -> None:
    packages = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages <= {shlex.split(arguments)[0] for arguments in COPIES}
    assert "pyproject.toml ./" in COPIES, "alembic's configuration"


def test_what_is_copied_is_enough_to_migrate_and_to_start(tmp_path: Path) -> None:
    image, data = tmp_path / "image", tmp_path / "data"
    image.mkdir()
    for source in (shlex.split(arguments)[0] for arguments in COPIES if not arguments.startswith("--from=")):
        path = REPOSITORY / source
        if path.is_dir():
            shutil.copytree(path, image / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, image)
    environment = {"CHATGLM_DATA_DIR": str(data), "PYTHONDONTWRITEBYTECODE": "1"}
    for command in (
        ["-m", "tools.admin", "database", "upgrade"],
        ["-c", "import app.__main__, app.main, tools.healthcheck"],
        ["-m", "services.inference", "--help"],
    ):
        subprocess.run([sys.executable, *command], cwd=image, env=environment, check=True)
    assert (data / "chatglm.db").exists()


def test_data_and_cache_are_volumes() -> None:
    assert exec_form(arguments_of("VOLUME")[-1]) == ["/data", "/cache"]
    for service in OURS.values():
        assert {volume.split(":")[1] for volume in service["volumes"]} == {"/data", "/cache"}
        assert {volume.split(":")[0] for volume in service["volumes"]} <= COMPOSE["volumes"].keys()


@pytest.mark.parametrize(
    "text", [DOCKERFILE, COMPOSE_TEXT, EXAMPLE], ids=["Dockerfile", "compose.yaml", ".env.example"]
)
def test_every_setting_named_exists(text: str) -> None:
    assert set(re.findall(rf"{PREFIX}[A-Z_]+", text)) <= SETTINGS


def test_the_settings_of_the_image_are_those_the_health_check_reads() -> None:
    environment = dict(word.split("=", 1) for word in " ".join(arguments_of("ENV")).split())
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert environment["CHATGLM_HOST"] == "0.0.0.0"
    assert environment["CHATGLM_PORT"] == str(Settings.model_fields["port"].default) == arguments_of("EXPOSE")[0]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_of_compose(name: str) -> None:
    service = SERVICES[name]
    image = re.sub(r"\$\{REGISTRY:-([^}]*)\}", r"\1", service["image"])
    assert PINNED.match(image), "pinned by tag"
    assert service["read_only"] is True
    assert service["restart"] == ("no" if name.startswith("migrate") else "unless-stopped")
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    for needed in service.get("depends_on", {}):
        assert set(SERVICES[needed].get("profiles", [])) <= set(service.get("profiles", []))


def test_the_database_is_not_reachable_from_outside_and_says_when_it_is_ready() -> None:
    database = SERVICES["db"]
    assert "ports" not in database
    assert "pg_isready" in database["healthcheck"]["test"]


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_a_profile_migrates_once_then_serves(profile: str) -> None:
    service, migration = SERVICES[profile], SERVICES[f"migrate-{profile}"]
    assert service["profiles"] == migration["profiles"] == [profile]
    assert service["image"] == migration["image"] == f"chatglm-api:{VERSION}-{profile}"
    assert service["depends_on"] == {f"migrate-{profile}": {"condition": "service_completed_successfully"}}
    assert migration["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert migration["command"] == ["python", "-m", "tools.admin", "database", "upgrade"]
    assert "command" not in service
    devices = service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
    assert [device["driver"] for device in devices] == (["nvidia"] if profile == "gpu" else [])


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_the_service_owns_nothing_and_only_the_migration_knows_the_owner(profile: str) -> None:
    service, migration = SERVICES[profile]["environment"], SERVICES[f"migrate-{profile}"]["environment"]
    owner = migration["CHATGLM_MIGRATION_DATABASE_URL"]
    # The migration inherits the rest, by a merge key.
    assert {**service, "CHATGLM_MIGRATION_DATABASE_URL": owner} == migration
    assert service["CHATGLM_DATABASE_URL"].startswith("postgresql://chatglm_service:${POSTGRES_SERVICE_PASSWORD:")
    assert owner.startswith("postgresql://chatglm_owner:${POSTGRES_PASSWORD:")
    for volume in SERVICES["db"]["volumes"]:
        source = volume.partition(":")[0]
        assert not source.startswith("./") or (REPOSITORY / source).is_file()


def test_stopping_leaves_answers_the_time_they_are_promised() -> None:
    promised = Settings.model_fields["shutdown_seconds"].default
    for profile in ("cpu", "gpu"):
        assert int(SERVICES[profile]["stop_grace_period"].removesuffix("s")) > promised


def test_compose_refuses_to_start_without_its_secrets_and_needs_nothing_else() -> None:
    required: set[str] = set()
    optional: set[str] = set()
    for name, rest in re.findall(r"\$\{(\w+)([^}]*)\}", COMPOSE_TEXT):
        (required if rest.startswith(":?") and len(rest) > 2 else optional).add(name)
        assert rest.startswith((":?", ":-", ":+")), f"{name} has neither a default nor a message"
    assert required == {"CHATGLM_SECRET", "POSTGRES_PASSWORD", "POSTGRES_SERVICE_PASSWORD"}
    assert required == set(re.findall(r"^(\w+)=$", EXAMPLE, re.MULTILINE))
    assert optional <= set(re.findall(r"^#?(\w+)=", EXAMPLE, re.MULTILINE)), "each is in .env.example"


@pytest.mark.parametrize(
    "arguments",
    argument_lists(DOCKERFILE) + [service["command"][2:] for service in OURS.values() if "command" in service],
    ids=" ".join,
)
def test_every_command_exists(arguments: list[str]) -> None:
    check_command(arguments)
