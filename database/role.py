"""The role that this service has on PostgreSQL: whether it is bound there, and whether it may do its work."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from database.models import AuditEvent, Base
from database.tenancy import TENANT, TENANT_SETTING, content_tables

# Of the role that has logged in, whatever it has become since: it can go back. A member may become the role by
# SET ROLE, or has its rights without that.
_UNBOUND_ROLE = text("""
    SELECT CASE rolname WHEN session_user THEN '' ELSE format('may become %I, which ', rolname) END
        || CASE WHEN rolsuper THEN 'is a superuser' ELSE 'has BYPASSRLS' END
    FROM pg_roles WHERE (rolsuper OR rolbypassrls) AND pg_has_role(session_user, oid, 'MEMBER')
    ORDER BY rolname = session_user DESC, rolname LIMIT 1
""")
_OURS = "SELECT to_regclass(name) FROM unnest(CAST(:names AS text[])) AS named (name)"
_SCHEMAS = f"SELECT relnamespace FROM pg_class WHERE oid IN ({_OURS})"  # noqa: S608 - our own words
# An owner can drop tables, policies and the triggers that keep the audit log, and write functions anew.
_OWNED = text(f"""
    SELECT kind || ' ' || name FROM (
        SELECT 'table' AS kind, relname AS name, relowner AS owner FROM pg_class WHERE oid IN ({_OURS})
        UNION ALL SELECT 'schema', nspname, nspowner FROM pg_namespace WHERE oid IN ({_SCHEMAS})
        UNION ALL SELECT 'function', proname, proowner FROM pg_proc WHERE pronamespace IN ({_SCHEMAS})
            OR oid IN (SELECT tgfoid FROM pg_trigger WHERE tgrelid IN ({_OURS}) AND NOT tgisinternal)
    ) AS owned WHERE pg_has_role(session_user, owner, 'MEMBER') ORDER BY kind DESC, name LIMIT 1
""")  # noqa: S608
_OPEN = text(f"""
    SELECT relname FROM pg_class WHERE oid IN ({_OURS}) AND NOT (relrowsecurity AND relforcerowsecurity)
    ORDER BY relname LIMIT 1
""")  # noqa: S608
# As PostgreSQL writes it, without the parentheses and casts that it adds.
_POLICY = (True, "*", "{0}", f"{TENANT} = current_setting'{TENANT_SETTING}', true", None)
_POLICIES = text("""
    SELECT named.name, polpermissive, CAST(polcmd AS text), CAST(polroles AS text),
        regexp_replace(pg_get_expr(polqual, polrelid), '[()]|::(text|character varying)', '', 'g'),
        pg_get_expr(polwithcheck, polrelid)
    FROM unnest(CAST(:names AS text[])) AS named (name) JOIN pg_policy ON polrelid = to_regclass(named.name)
""")
_ALL_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
# The rest is the migrations' alone, or refused to everybody.
_FEWER_RIGHTS = {"alembic_version": ("SELECT",), AuditEvent.__tablename__: ("SELECT", "INSERT")}
_LACKING = text("""
    SELECT wanted || ' on ' || name
    FROM unnest(CAST(:names AS text[]), CAST(:rights AS text[])) WITH ORDINALITY AS needed (name, wanted, place)
    WHERE NOT has_table_privilege(to_regclass(name), wanted) ORDER BY place LIMIT 1
""")


async def lacking_right(engine: AsyncEngine) -> str | None:
    """A right on a table that the service needs and its role lacks, as in `INSERT on turns`; never with SQLite."""
    if engine.dialect.name != "postgresql":
        return None
    tables = ["alembic_version", *Base.metadata.tables]
    needed = [(name, right) for name in tables for right in _FEWER_RIGHTS.get(name, _ALL_RIGHTS)]
    given = {"names": [name for name, _ in needed], "rights": [right for _, right in needed]}
    async with engine.connect() as connection:
        return (await connection.execute(_LACKING, given)).scalar()


async def why_unbound(engine: AsyncEngine) -> str | None:
    """What is wrong with the role or the tables, as a clause; None if tenants are kept apart, or this is SQLite."""
    if engine.dialect.name != "postgresql":
        return None
    content = sorted(table.name for table in content_tables())  # type: ignore[attr-defined]
    async with engine.connect() as connection:
        if (unbound := (await connection.execute(_UNBOUND_ROLE)).scalar()) is not None:
            return str(unbound)
        owned = await connection.execute(_OWNED, {"names": [*Base.metadata.tables, "alembic_version"]})
        if (name := owned.scalar()) is not None:
            return f"owns the {name}, or may become its owner"
        if (name := (await connection.execute(_OPEN, {"names": content})).scalar()) is not None:
            return f"finds the table {name} without row level security"
        policies = (await connection.execute(_POLICIES, {"names": content})).all()
    for name in content:
        if [tuple(policy) for table, *policy in policies if table == name] != [_POLICY]:
            return f"finds the table {name} with other policies than the migrations make"
    return None
