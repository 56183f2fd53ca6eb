"""`copy` and `release`: a database moved to another one, while the service can only be read."""

import asyncio
import time
from collections.abc import Collection, Coroutine
from typing import Annotated, Any

import typer
from sqlalchemy.exc import ProgrammingError

from app.common.errors import Conflict, InvalidRequest, ReadOnly
from database.clock import now
from database.clock_skew import check_clock
from database.engine import same_database
from database.models import Tenant
from database.read_only import allow_writes, refuse_turns, refuse_writes, refused_tenants
from database.repositories.lease_repository import LeaseRepository
from services.audit_service import record
from services.tenant_service import TenantService
from tools.admin.opened import AsJson, Result, operator, show
from tools.data_migration.copier import Copier, Piece, TableReport, pieces
from tools.data_migration.exit_status import DIFFERENT
from tools.data_migration.progress_bar import Progress
from tools.data_migration.side import Side, opened

_POLL_SECONDS = 0.2
_From = Annotated[
    str,
    typer.Option("--from", envvar="COPY_FROM", help="The source: sqlite:///… or postgresql://…, of the tables' owner."),
]
_To = Annotated[
    str, typer.Option("--to", envvar="COPY_TO", help="The target, migrated: sqlite:///… or postgresql://….")
]
COPY_EXAMPLES = """
Examples:

python -m tools.data_migration copy --from sqlite:///data/chatglm.db --to postgresql://chatglm_owner@db/chatglm

COPY_FROM=postgresql://… COPY_TO=sqlite:///new.db python -m tools.data_migration copy --dry-run --json
"""
RELEASE_EXAMPLES = "Example: python -m tools.data_migration release --from sqlite:///data/chatglm.db"
_Tenant = Annotated[str | None, typer.Option(help="Only the tenant of this name; all by default.")]


def copy(
    source: _From,
    target: _To,
    tenant: _Tenant = None,
    *,
    wait: Annotated[float, typer.Option(min=0, help="Seconds that running turns may take to end.")] = 60,
    release: Annotated[bool, typer.Option("--release", help="Let the source be written again at the end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy a database, between SQLite and PostgreSQL or within one kind, and prove that both hold the same.

    The source becomes read-only first: new turns are refused with 503, those that run may end, history can be read. It
    stays so, since what it would take in after the copy would be missing in the target; `release` ends that. A copy
    that was interrupted is resumed by the same command. The target needs the same `CHATGLM_SECRET`.

    Exit status: 0 done and equal, 1 refused (a sentence says why), 2 wrong usage, 3 copied, but the two sides differ.
    """
    _run(_copy(source, target, tenant, wait=wait, release=release, dry_run=dry_run, as_json=as_json))


def release(source: _From, tenant: _Tenant = None) -> None:
    """Let a database be written again that a copy has made read-only: all of it, also tenants that were copied alone.

    Refused with `--tenant` while the whole database is read-only.
    """

    async def work() -> bool:
        async with opened(source) as side:
            refused = await refused_tenants(side.engine)
            if tenant is not None:
                only = (await _chosen(side, tenant))[0].id
                await _check_release(side, only)
                refused &= {only}
            await _release(side, refused)
            return bool(refused)

    typer.echo("released" if _run(work()) else "it was not read-only")


async def _copy(
    source_url: str, target_url: str, tenant: str | None, *, wait: float, release: bool, dry_run: bool, as_json: bool
) -> None:
    if same_database(source_url, target_url):
        raise InvalidRequest("Source and target are the same database.")
    async with opened(source_url) as source, opened(target_url) as target:
        only = None if tenant is None else (await _chosen(source, tenant))[0].id
        if dry_run:
            counted = await Copier(source, target, Progress(None, quiet=True)).count(await _wanted(source, tenant))
            show([_row(report, counted=True) for report in counted], as_json=as_json)
            return
        if release:
            await _check_release(source, only)
        await _make_read_only(source, only, wait)
        # Asked for now: a tenant may have been made until the last moment.
        wanted = await _wanted(source, tenant)
        began = time.monotonic()
        sent, copying, reports = await _copied(source, target, wanted, began)
        if release:
            await _release(source, {only})
        show([_row(report) for report in reports], as_json=as_json)
        rate = f" ({sent / copying:,.0f} rows/s)" if copying > 0 else ""
        typer.echo(f"{sent} rows in {copying:.1f} s{rate}, {time.monotonic() - began:.1f} s with comparing", err=True)
    if not all(report.equal for report in reports):
        typer.echo(
            "The two sides differ: not done. The target must not hold other rows; begin with a new one.", err=True
        )
        raise typer.Exit(DIFFERENT)
    if not release:
        typer.echo("Both sides are equal. The source stays read-only until: release --from …", err=True)


async def _copied(
    source: Side, target: Side, wanted: list[Piece], began: float
) -> tuple[int, float, list[TableReport]]:
    """Rows sent, the seconds that took, and what both sides hold then."""
    # Copied once, and compared on both sides.
    total = 3 * sum([await source.count(piece.part, piece.tenant_id) for piece in wanted])
    with Progress(total) as progress:
        copier = Copier(source, target, progress)
        sent = await copier.copy(wanted, resume=True)
        copying = time.monotonic() - began
        reports = await copier.compare(wanted)
        if different := {report.table for report in reports if not report.equal}:
            # Rows may have come between those that an earlier copy left there.
            again = [piece for piece in wanted if piece.part.table.name in different]
            sent += await copier.copy(again, resume=False)
            reports = await copier.compare(wanted)
    return sent, copying, reports


async def _make_read_only(source: Side, tenant_id: str | None, wait: float) -> None:
    # By a clock that is ahead, turns that run are dead.
    await check_clock(source.database)
    resumed = tenant_id in await refused_tenants(source.engine)
    await refuse_turns(source.engine, tenant_id)
    if not resumed:
        try:
            await _note(source, "database.copy", tenant_id)
        except Exception:
            # The next copy would take this one's triggers for noted.
            await allow_writes(source.engine, tenant_id)
            raise
    give_up = time.monotonic() + wait
    while running := await _running(source, tenant_id):
        if time.monotonic() >= give_up:
            refusal = f"{running} turns are still running; let them end, or wait longer with --wait."
            if resumed:
                raise Conflict(f"{refusal} The source stays read-only, as it was before, until: release --from …")
            await _release(source, {tenant_id})
            raise Conflict(refusal)
        await asyncio.sleep(_POLL_SECONDS)
    await refuse_writes(source.engine, tenant_id)


async def _check_release(side: Side, tenant_id: str | None) -> None:
    # Its triggers could be dropped, but it would stay read-only, and so would the audit log.
    if tenant_id is not None and None in await refused_tenants(side.engine):
        raise Conflict("The whole database is read-only; release it without --tenant.")


async def _release(side: Side, tenant_ids: Collection[str | None]) -> None:
    for tenant_id in tenant_ids:
        await allow_writes(side.engine, tenant_id)
    # Only now: the audit log was read-only too.
    for tenant_id in tenant_ids:
        await _note(side, "database.release", tenant_id)


async def _running(source: Side, tenant_id: str | None) -> int:
    # Whose lease has expired is dead; its turn is copied as it is, and settled as interrupted by the target's service.
    async with source.database.begin_global() as session:
        return await LeaseRepository(session).living(now(), tenant_id)


async def _note(side: Side, action: str, tenant_id: str | None) -> None:
    try:
        async with side.database.begin_global() as session:
            record(session, operator(), action, tenant_id=tenant_id, target_id=None)
    except ReadOnly:
        # The whole database is read-only, its audit log too; so nothing has changed for one tenant.
        if tenant_id is None:
            raise


async def _wanted(source: Side, tenant: str | None) -> list[Piece]:
    return pieces([one.id for one in await _chosen(source, tenant)], whole=tenant is None)


async def _chosen(side: Side, name: str | None) -> list[Tenant]:
    tenants = TenantService(side.database)
    return await tenants.all() if name is None else [await tenants.named(name)]


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != "42501":
            raise
        raise InvalidRequest("The role of --from may not change the tables: use the URL of their owner.") from error


def _row(report: TableReport, *, counted: bool = False) -> dict[str, Any]:
    rows = {"table": report.table, "source_rows": report.source.rows, "target_rows": report.target.rows}
    if counted:
        return rows
    sums = {"source_checksum": f"{report.source.checksum:032x}", "target_checksum": f"{report.target.checksum:032x}"}
    return {**rows, **sums, "equal": report.equal}
