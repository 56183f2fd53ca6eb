"""The role that this service has on PostgreSQL: whether it is bound there, and whether it may do its work."""

from sqlalchemy import TextClause, text
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
    SELECT 'owns the ' || kind || ' ' || name || ', or may become its owner' FROM (
        SELECT 'table' AS kind, relname AS name, relowner AS owner FROM pg_class WHERE oid IN ({_OURS})
        UNION ALL SELECT 'schema', nspname, nspowner FROM pg_namespace WHERE oid IN ({_SCHEMAS})
        UNION ALL SELECT 'function', proname, proowner FROM pg_proc WHERE pronamespace IN ({_SCHEMAS})
            OR oid IN (SELECT tgfoid FROM pg_trigger WHERE tgrelid IN ({_OURS}) AND NOT tgisinternal)
    ) AS owned WHERE pg_has_role(session_user, owner, 'MEMBER') ORDER BY kind DESC, name LIMIT 1
""")  # noqa: S608
# Row level security does not bind them. TRUNCATE empties a table of all tenants. A trigger runs as whoever writes, an
# administrator perhaps, and may lie in the role's own temporary schema. A foreign key tells which rows others have.
_FREE_RIGHTS = "TRUNCATE, TRIGGER, REFERENCES"
_RIGHTS = text(f"""
    SELECT format('has the right %s on the table %s (REVOKE {_FREE_RIGHTS} ON ALL TABLES IN SCHEMA %s FROM %s)',
        privilege_type, relname, CAST(relnamespace AS regnamespace),
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(grantee AS regrole) AS text) END)
    FROM (
        SELECT relname, relnamespace, (aclexplode(relacl)).* FROM pg_class WHERE oid IN ({_OURS})
        UNION ALL SELECT relname, relnamespace, (aclexplode(attacl)).*
            FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE attrelid IN ({_OURS})
    ) AS granted WHERE privilege_type = ANY (string_to_array('{_FREE_RIGHTS}', ', '))
        AND CASE grantee WHEN 0 THEN true ELSE pg_has_role(session_user, grantee, 'MEMBER') END
    ORDER BY privilege_type <> 'TRUNCATE', relname LIMIT 1
""")  # noqa: S608
# Until PostgreSQL 15 whoever makes roles may also become any that is no superuser: the owner of the tables.
_MAKES_ROLES = text("""
    SELECT CASE rolname WHEN session_user THEN '' ELSE format('may become %I, which ', rolname) END
        || format('has CREATEROLE, and so may become the owner (ALTER ROLE %I NOCREATEROLE)', rolname)
    FROM pg_roles WHERE rolcreaterole AND pg_has_role(session_user, oid, 'MEMBER')
        AND CAST(current_setting('server_version_num') AS integer) < 160000
    ORDER BY rolname = session_user DESC, rolname LIMIT 1
""")
_OPEN = text(f"""
    SELECT 'finds the table ' || relname || ' without row level security'
    FROM pg_class WHERE oid IN ({_OURS}) AND NOT (relrowsecurity AND relforcerowsecurity)
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
    ours = {"names": [*Base.metadata.tables, "alembic_version"]}
    questions: dict[TextClause, dict[str, list[str]]] = {
        _UNBOUND_ROLE: {},
        _OWNED: ours,
        _MAKES_ROLES: {},
        _RIGHTS: ours,
        _OPEN: {"names": content},
    }
    async with engine.connect() as connection:
        for question, names in questions.items():
            if (reason := (await connection.execute(question, names)).scalar()) is not None:
                return str(reason)
        policies = (await connection.execute(_POLICIES, {"names": content})).all()
    for name in content:
        if [tuple(policy) for table, *policy in policies if table == name] != [_POLICY]:
            return f"finds the table {name} with other policies than the migrations make"
    return None
