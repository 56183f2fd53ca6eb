"""PostgreSQL's lock between tenants: the policy that every table with content gets in its migration."""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import op


def lock_rows(table: str) -> None:
    """Let nobody, its owner included, see or write rows of this table but those of the transaction's tenant."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    # Named by database/tenancy.py too; written out here, since a migration must keep its meaning.
    op.execute(f"CREATE POLICY tenant ON {table} USING (tenant_id = current_setting('chatglm.tenant_id', true))")


def unlock_rows(table: str) -> None:
    """Take that back."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(f"DROP POLICY tenant ON {table}")
    op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY")


@contextmanager
def rows_of_all(*tables: str) -> Iterator[None]:
    """Let the owner, under whom migrations run, change the rows of all tenants meanwhile."""
    for table in tables:
        _force(table, "NO FORCE")
    yield
    for table in tables:
        _force(table, "FORCE")


def _force(table: str, how: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE {table} {how} ROW LEVEL SECURITY")
