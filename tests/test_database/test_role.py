"""Which roles and tables the service refuses, since PostgreSQL would not bind it there."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import make_url

from database.engine import create_engine
from database.identifier import new_id
from database.models import Base
from database.role import why_unbound
from database.tenancy import content_tables
from tests.conftest import OWNER, SERVICE, as_owner, run_as_superuser

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
        assert found.startswith(reason.format(other=other))
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
