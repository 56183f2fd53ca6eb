"""the service may read alembic_version, and no longer write it.

Revision: 0010
Follows: 0009
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# It has the rights of all the owner's new tables, since nobody can except one from default privileges. Whatever the
# service's role is called: nobody but the owner needs more than to read.
_READ_ONLY = """
    DO $$ DECLARE other regrole; BEGIN
        FOR other IN SELECT DISTINCT grantee FROM pg_class, aclexplode(relacl)
            WHERE oid = to_regclass('alembic_version') AND grantee NOT IN (0, relowner)
        LOOP EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON alembic_version FROM %s', other); END LOOP;
        REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON alembic_version FROM PUBLIC; END $$
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_READ_ONLY)


def downgrade() -> None:
    # What was before has no need to write it either, and who could is not known any more.
    pass
