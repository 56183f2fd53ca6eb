"""What many tests stand on: real databases, migrated, one for each test."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
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
    url = create_postgres(postgres_directory, "migrated")
    command.upgrade(alembic_config(url), "head")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated, empty database of each kind."""
    if request.param == "sqlite":
        path = tmp_path / "chatglm.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        return f"sqlite:///{path}"
    request.getfixturevalue("migrated_postgres")
    return create_postgres(request.getfixturevalue("postgres_directory"), f"test_{new_id()}", "migrated")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind, without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return create_postgres(request.getfixturevalue("postgres_directory"), f"test_{new_id()}")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(create_engine(database_url))
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


def create_postgres(directory: str, name: str, template: str = "template0") -> str:
    """A new database on the tests' server; its URL."""

    async def create() -> None:
        connection = await asyncpg.connect(host=directory, user="postgres", database="postgres")
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        await connection.close()

    asyncio.run(create())
    return f"postgresql://postgres@/{name}?host={directory}"
