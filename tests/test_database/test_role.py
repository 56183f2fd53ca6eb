"""Which roles and tables the service refuses: PostgreSQL would not bind it there, or not let it do its work."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import func, make_url, select, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from app.common.errors import DatabaseForbids
from database.engine import create_engine
from database.identifier import new_id
from database.models import Base, Tenant
from database.outage import told
from database.revision import upgrade
from database.role import lacking_right, why_unbound
from database.session import Database
from database.tenancy import content_tables
from tests.commands import REPOSITORY
from tests.conftest import OWNER, SERVICE, as_owner, create_postgres, run_as_superuser

_OTHER_POLICIES = "with other policies than the migrations make"
_LOCK = "ROW LEVEL SECURITY"
Superuser = Callable[[str], Awaitable[None]]


async def why(url: str) -> str:
    engine = create_engine(url)
    try:
        return str(await why_unbound(engine))
    finally:
        await engine.dispose()


@pytest.fixture
def superuser(postgres_directory: str, postgres_url: str) -> Superuser:
    """Runs SQL in the test's database."""
    return lambda sql: run_as_superuser(postgres_directory, str(make_url(postgres_url).database), sql)


@pytest.fixture
async def role(superuser: Superuser) -> AsyncIterator[str]:
    """A role of the test's own that owns nothing, since roles are the whole server's."""
    name = f"role_{new_id()}"
    await superuser(f"CREATE ROLE {name} LOGIN; GRANT {SERVICE} TO {name}")
    yield name
    await superuser(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


async def test_a_role_that_owns_nothing_is_bound(postgres_url: str, role: str) -> None:
    assert await why(postgres_url) == "None"
    assert await why(postgres_url.replace(f"//{SERVICE}@", f"//{role}@")) == "None"


async def test_a_superuser_and_the_owner_are_not_bound(postgres_url: str) -> None:
    assert await why(postgres_url.replace(f"//{SERVICE}@", "//postgres@")) == "is a superuser"
    assert await why(as_owner(postgres_url)) == "owns the table alembic_version, or may become its owner"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("ALTER ROLE {role} BYPASSRLS", "has BYPASSRLS"),
        ("GRANT postgres TO {role}", "may become postgres, which is a superuser"),
        # By way of another role, and without its rights until it becomes it.
        (
            "ALTER ROLE {role} NOINHERIT; GRANT postgres TO {other}; GRANT {other} TO {role}",
            "may become postgres, which",
        ),
        ("ALTER ROLE {other} BYPASSRLS; GRANT {other} TO {role}", "may become {other}, which has BYPASSRLS"),
        (f"GRANT {OWNER} TO {{role}}", "owns the table alembic_version, or may become its owner"),
        (f"GRANT {OWNER} TO {{other}}; GRANT {{other}} TO {{role}}", "owns the table alembic_version, or may become"),
        # It logs in as somebody else, and becomes what it was by RESET ROLE.
        (f"ALTER ROLE {{role}} SUPERUSER; ALTER ROLE {{role}} SET role = {SERVICE}", "is a superuser"),
        ("ALTER FUNCTION refuse_audit_change OWNER TO {role}", "owns the function refuse_audit_change, or may"),
        (
            (
                "ALTER FUNCTION refuse_audit_change OWNER TO {role}; CREATE SCHEMA elsewhere; "
                "ALTER FUNCTION refuse_audit_change SET SCHEMA elsewhere"
            ),
            "owns the function refuse_audit_change, or may",
        ),
        ("ALTER SCHEMA public OWNER TO {role}", "owns the schema public, or may become its owner"),
        (
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
            (
                "has the right TRUNCATE on the table alembic_version "
                "(REVOKE TRUNCATE, TRIGGER, REFERENCES ON ALL TABLES IN SCHEMA public FROM {role})"
            ),
        ),
        ("GRANT TRUNCATE ON leases TO PUBLIC", "has the right TRUNCATE on the table leases (REVOKE TRUNCATE, TRIGGER,"),
        # By way of another role, whose rights it has not until it becomes it.
        (
            "ALTER ROLE {role} NOINHERIT; GRANT TRIGGER ON items TO {other}; GRANT {other} TO {role}",
            "has the right TRIGGER on the table items",
        ),
        ("GRANT REFERENCES (tenant_id, id) ON turns TO {role}", "has the right REFERENCES on the table turns"),
    ],
)
async def test_a_role_that_could_undo_its_locks_is_refused(
    postgres_url: str, superuser: Superuser, role: str, change: str, reason: str
) -> None:
    other = f"other_{role}"
    await superuser(f"CREATE ROLE {other}")
    try:
        await superuser(change.format(role=role, other=other))
        found = await why(postgres_url.replace(f"//{SERVICE}@", f"//{role}@"))
        assert found.startswith(reason.format(role=role, other=other))
    finally:
        await superuser(f"DROP OWNED BY {other}; DROP ROLE {other}")


@pytest.mark.parametrize(
    "change", ["ALTER ROLE {role} CREATEROLE", "ALTER ROLE {other} CREATEROLE; GRANT {other} TO {role}"]
)
async def test_a_role_that_makes_roles_is_refused_where_it_could_make_itself_the_owner(
    postgres_url: str, superuser: Superuser, role: str, change: str
) -> None:
    url, other = postgres_url.replace(f"//{SERVICE}@", f"//{role}@"), f"other_{role}"
    await superuser(f"CREATE ROLE {other}")
    try:
        await superuser(change.format(role=role, other=other))
        found = await why(url)
        engine = create_engine(url)
        try:
            async with engine.begin() as connection:
                await connection.execute(text(f"SET ROLE {other if 'GRANT' in change else role}"))
                await connection.execute(text(f"GRANT {OWNER} TO {role}"))
            becomes_owner = True
        except DBAPIError:
            # PostgreSQL 16 and newer.
            becomes_owner = False
        finally:
            await engine.dispose()
        assert ("has CREATEROLE" in found) == becomes_owner
        maker = other if "GRANT" in change else role
        assert found.endswith(f"(ALTER ROLE {maker} NOCREATEROLE)") or not becomes_owner
    finally:
        await superuser(f"DROP ROLE {other}")


async def test_a_role_that_owns_any_table_is_refused(postgres_url: str, superuser: Superuser, role: str) -> None:
    for table in [*Base.metadata.tables, "alembic_version"]:
        await superuser(f"ALTER TABLE {table} OWNER TO {role}")
        found = await why(postgres_url.replace(f"//{SERVICE}@", f"//{role}@"))
        assert found == f"owns the table {table}, or may become its owner"
        await superuser(f"ALTER TABLE {table} OWNER TO {OWNER}")


async def test_any_table_without_its_lock_is_refused(postgres_url: str, superuser: Superuser) -> None:
    for name in sorted(table.name for table in content_tables()):  # type: ignore[attr-defined]
        for change, back, reason in (
            (f"ALTER TABLE {name} NO FORCE {_LOCK}", f"ALTER TABLE {name} FORCE {_LOCK}", "without row level security"),
            # It stays forced, and binds nobody.
            (f"ALTER TABLE {name} DISABLE {_LOCK}", f"ALTER TABLE {name} ENABLE {_LOCK}", "without row level security"),
            # One of several policies is enough to let a row through.
            (f"CREATE POLICY more ON {name} USING (true)", f"DROP POLICY more ON {name}", _OTHER_POLICIES),
        ):
            await superuser(change)
            assert await why(postgres_url) == f"finds the table {name} {reason}"
            await superuser(back)
    assert await why(postgres_url) == "None"


@pytest.mark.parametrize(
    "change",
    [
        "CREATE POLICY more ON items AS RESTRICTIVE USING (true)",
        "CREATE POLICY more ON items FOR INSERT WITH CHECK (true)",
        "DROP POLICY tenant ON items",
        "ALTER POLICY tenant ON items USING (true)",
        "ALTER POLICY tenant ON items USING (tenant_id = current_setting('chatglm.tenant_id', true) OR true)",
        "ALTER POLICY tenant ON items USING (tenant_id = current_setting('another.setting', true))",
        "ALTER POLICY tenant ON items USING (id = current_setting('chatglm.tenant_id', true))",
        "ALTER POLICY tenant ON items WITH CHECK (true)",
        f"ALTER POLICY tenant ON items TO {OWNER}",
    ],
)
async def test_a_policy_that_is_not_the_migrations_is_refused(
    postgres_url: str, superuser: Superuser, change: str
) -> None:
    await superuser(change)
    assert await why(postgres_url) == f"finds the table items {_OTHER_POLICIES}"


async def lacks(url: str) -> str | None:
    engine = create_engine(url)
    try:
        return await lacking_right(engine)
    finally:
        await engine.dispose()


async def test_a_role_that_may_not_use_a_table_as_the_service_does_is_refused(
    postgres_url: str, superuser: Superuser
) -> None:
    assert await lacks(postgres_url) is None
    for table in Base.metadata.tables:
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            if table == "audit_events" and right in {"UPDATE", "DELETE"}:
                # Nobody has to do what the database refuses to everybody.
                continue
            await superuser(f"REVOKE {right} ON {table} FROM {SERVICE}")
            assert await lacks(postgres_url) == f"{right} on {table}"
            await superuser(f"GRANT {right} ON {table} TO {SERVICE}")
    await superuser(f"REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {SERVICE}")
    await superuser(f"REVOKE UPDATE, DELETE ON audit_events FROM {SERVICE}")
    assert await lacks(postgres_url) is None
    await superuser(f"REVOKE SELECT ON alembic_version FROM {SERVICE}")  # noqa: S608 - our own names
    assert await lacks(postgres_url) == "SELECT on alembic_version"


async def test_what_postgresql_forbids_is_said_to_the_administrator_alone(
    postgres_url: str, superuser: Superuser
) -> None:
    await superuser(f"REVOKE SELECT ON tenants FROM {SERVICE}")  # noqa: S608
    database = Database(create_engine(postgres_url))
    with pytest.raises(DatabaseForbids) as caught:
        async with database.begin_global() as session:
            await session.execute(select(func.count()).select_from(Tenant))
    await database.close()
    assert "tenants" not in caught.value.message
    assert str(caught.value.reason).startswith("permission denied for table tenants. Migrate as the owner")


_CONVERSATION = "INSERT INTO conversations (id, tenant_id, length, created_at, used_at)"


@pytest.mark.parametrize(
    "change",
    [f"{_CONVERSATION} VALUES (repeat('1', 32), repeat('2', 32), 0, now(), now())", "DELETE FROM audit_events"],
)
async def test_what_a_policy_or_a_trigger_forbids_stays_a_defect(
    postgres_url: str, superuser: Superuser, change: str
) -> None:
    await superuser(
        "INSERT INTO audit_events (id, created_at, actor_type, actor_id, action) "
        "VALUES (repeat('1', 32), now(), 'x', 'x', 'x')"
    )
    engine = create_engine(postgres_url)
    with pytest.raises(ProgrammingError) as caught:
        async with engine.begin() as connection:
            await connection.execute(text(change))
    await engine.dispose()
    assert getattr(caught.value.orig, "sqlstate", None) == "42501"
    assert told(caught.value) is caught.value


@pytest.mark.parametrize("language", ["README.md", "README.zh-CN.md"])
@pytest.mark.parametrize("maker", ["postgres", "somebody"])
async def test_tables_that_another_role_made_become_the_owners_as_the_readme_says(
    postgres_directory: str, role: str, language: str, maker: str
) -> None:
    name, maker = f"test_{new_id()}", role if maker == "somebody" else maker
    url = await asyncio.to_thread(create_postgres, postgres_directory, name, role=maker)
    await run_as_superuser(postgres_directory, name, f"GRANT CREATE ON SCHEMA public TO {OWNER}, {role}")
    await asyncio.to_thread(upgrade, url)
    service = url.replace(f"//{maker}@", f"//{SERVICE}@")
    assert await lacks(service) == "SELECT on alembic_version"
    said = (REPOSITORY / language).read_text(encoding="utf-8")
    first, of_postgres = re.findall(r"^```sql\n(.*?)^```", said, re.MULTILINE | re.DOTALL)
    reassign, *grants = first.splitlines()
    await run_as_superuser(
        postgres_directory, name, of_postgres if maker == "postgres" else reassign.replace("wrong_role", role)
    )
    await run_as_superuser(postgres_directory, name, "\n".join(grants))
    assert (await lacks(service), await why(service)) == (None, "None")
    await run_as_superuser(postgres_directory, name, f"DROP OWNED BY {role}")
