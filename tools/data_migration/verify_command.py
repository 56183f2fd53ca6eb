"""`verify`: whether the rows agree with each other."""

from typing import Annotated

import typer

from app.settings import Settings
from database.engine import create_engine
from database.session import Database
from services.tenant_service import TenantService
from tools.admin.opened import AsJson, show, with_database
from tools.data_migration.exit_status import WRONG
from tools.data_migration.verification import Finding, orphans
from tools.data_migration.verification import verify as verify_tenant

EXAMPLES = """
Examples:

python -m tools.data_migration verify

python -m tools.data_migration verify --tenant acme --json
"""


def verify(
    tenant: Annotated[str | None, typer.Option(help="Only the tenant of this name; all by default.")] = None,
    as_json: AsJson = False,  # noqa: FBT002 - an option of the command line
) -> None:
    """Check the service's database, which may be in use: references, states, leases, positions, limits and usage.

    Exit status: 0 nothing is wrong, 1 something is. Gaps in conversations are listed as notes, since erasing leaves
    them. Each kind of finding is listed up to 100 times for a tenant.
    """

    async def work(settings: Settings, database: Database) -> list[Finding]:
        tenants = TenantService(database)
        chosen = await tenants.all() if tenant is None else [await tenants.named(tenant)]
        engine = create_engine(settings.database, pool_size=1, name="chatglm-tools")
        try:
            found = [finding async for finding in orphans(engine)]
        finally:
            await engine.dispose()
        for one in chosen:
            found += [finding async for finding in verify_tenant(database, engine.dialect.name, one)]
        return found

    findings = with_database(work)
    rows = [{"tenant": one.tenant, "check": one.check, "what": one.what, "wrong": not one.is_note} for one in findings]
    show(rows, as_json=as_json)
    if any(row["wrong"] for row in rows):
        raise typer.Exit(WRONG)
