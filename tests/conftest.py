"""What many tests stand on: real databases, migrated, one for each test."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import httpcore2
import pytest
from alembic import command

from database.clock import now
from database.engine import create_engine
from database.identifier import new_id
from database.models import ApiKey, Tenant
from database.revision import alembic_config
from database.session import Database
from services.principal import TENANT_SCOPES, Principal
from tests.postgres import running_postgres

ROLES = Path(__file__).parent.parent / "database" / "roles.sql"
SERVICE, OWNER = "chatglm_service", "chatglm_owner"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed and logged, with halves of surrogate pairs spelled out: reports travel between processes."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """Each HTTP client reads the machine's certificates, in 60 ms, also where nobody speaks TLS, as here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore2, "default_ssl_context", cache(httpcore2.default_ssl_context))
        yield


@pytest.fixture(scope="session")
def postgres_directory() -> Iterator[str]:
    with running_postgres() as directory:
        yield directory


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "template.db"
    command.upgrade(alembic_config(f"sqlite:///{path}"), "head")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_directory: str) -> str:
    create_postgres(postgres_directory, "migrated")
    asyncio.run(run_as_superuser(postgres_directory, "migrated", ROLES.read_text(encoding="utf-8")))
    url = f"postgresql://{SERVICE}@/migrated?host={postgres_directory}"
    command.upgrade(alembic_config(as_owner(url)), "head")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A migrated, empty database of each kind; on PostgreSQL under the service's own role."""
    if request.param == "sqlite":
        path = tmp_path / "chatglm.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        return f"sqlite:///{path}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def postgres_url(postgres_directory: str, migrated_postgres: str) -> str:
    """A migrated, empty database on PostgreSQL, under the service's own role."""
    return create_postgres(postgres_directory, f"test_{new_id()}", "migrated", role=SERVICE)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind, without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return create_postgres(request.getfixturevalue("postgres_directory"), f"test_{new_id()}")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(create_engine(database_url, timeout=60))
    yield database
    await database.close()


@dataclass(frozen=True)
class TwoTenants:
    """Two tenants that share a database, and a caller of each."""

    ours: Principal
    theirs: Principal


@pytest.fixture
async def tenants(database: Database) -> TwoTenants:
    return TwoTenants(ours=await make_tenant(database, "ours"), theirs=await make_tenant(database, "theirs"))


async def make_tenant(database: Database, name: str) -> Principal:
    """A tenant with one key, whose text nobody knows."""
    at = now()
    tenant = Tenant(id=new_id(at), name=name, created_at=at)
    key = ApiKey(
        id=new_id(at),
        tenant_id=tenant.id,
        name=name,
        prefix="sk-test",
        hash=f"{name:-<64}",
        pepper_id="none",
        scopes=sorted(TENANT_SCOPES),
        created_at=at,
    )
    async with database.begin_global() as session:
        session.add(tenant)
        await session.flush()
        session.add(key)
    return Principal(tenant_id=tenant.id, key_id=key.id, scopes=TENANT_SCOPES)


def create_postgres(directory: str, name: str, template: str = "template0", role: str = "postgres") -> str:
    """A new database on the tests' server; its URL for this role."""
    asyncio.run(
        run_as_superuser(directory, "postgres", f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
    )
    return f"postgresql://{role}@/{name}?host={directory}"


async def run_as_superuser(directory: str, name: str, sql: str) -> None:
    """Run SQL where nothing is refused."""
    connection = await asyncpg.connect(host=directory, user="postgres", database=name)
    await connection.execute(sql)
    await connection.close()


def as_owner(url: str) -> str:
    """The same database under the role that may change its schema."""
    return url.replace(f"//{SERVICE}@", f"//{OWNER}@")
