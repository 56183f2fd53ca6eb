"""Records stored in a tenant: each whole or not at all, and only what is not there yet."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import make_transient

from database.clock import now
from database.models import Tenant
from database.repositories.import_repository import ImportRepository
from database.session import Database
from services.audit_service import Actor
from services.audit_service import record as note
from tools.data_migration.progress_bar import Progress
from tools.data_migration.record import Record, Rejected

_AT_ONCE = 50


@dataclass(slots=True)
class Imported:
    """What became of the records of a file."""

    records: int = 0
    rows_added: int = 0
    rejected: int = 0


class Importer:
    """Stores records of one tenant; what cannot be stored goes to the file of rejects."""

    def __init__(self, by: Actor, database: Database, tenant: Tenant, rejects: Path, progress: Progress) -> None:
        self._by = by
        self._database = database
        self._tenant = tenant
        self._rejects = rejects
        self._progress = progress
        self._report = Imported()
        self._begun = False

    async def run(self, records: Iterator[Record | Rejected]) -> Imported:
        """Store all of them. Audited when the first are stored, and with the report."""
        waiting: list[Record] = []
        for record in records:
            if isinstance(record, Rejected):
                self._reject(record)
                continue
            waiting.append(record)
            if len(waiting) == _AT_ONCE:
                await self._store(waiting)
                waiting = []
        await self._store(waiting)
        async with self._database.begin_global() as session:
            counts = {"rows": self._report.rows_added, "rejected": self._report.rejected}
            self._note(session, "tenant.imported", counts)
        return self._report

    def _note(self, session: AsyncSession, action: str, counts: dict[str, int] | None = None) -> None:
        note(session, self._by, action, tenant_id=self._tenant.id, target_id=self._tenant.id, after=counts)

    async def _store(self, records: Sequence[Record]) -> None:
        if not records:
            return
        try:
            async with self._database.begin(self._tenant.id) as session:
                repository = ImportRepository(session)
                keys = {key: name for record in records for key, name in record.keys.items()}
                rows = [row for record in records for row in record.rows]
                added = await repository.add_missing(self._tenant.id, rows, keys, now())
                if not self._begun:
                    self._note(session, "tenant.import")
        except DBAPIError:
            await self._store_singly(records)
            return
        self._begun = True
        self._report.records += len(records)
        self._report.rows_added += added
        self._progress.advance("importing", len(records))

    async def _store_singly(self, records: Sequence[Record]) -> None:
        if len(records) == 1:
            (record,) = records
            # Not in the database's words, which may tell of another tenant's row.
            reason = "the database refuses it: an id in it is taken, refers to nothing, or a value is out of range"
            self._reject(Rejected(record.number, reason, record.raw))
            return
        for record in records:
            for row in record.rows:
                # As if the transaction that failed had never seen it.
                make_transient(row)
            await self._store([record])

    def _reject(self, rejected: Rejected) -> None:
        self._report.rejected += 1
        told = {
            "number": rejected.number,
            "reason": rejected.reason,
            "record": rejected.raw.decode(errors="backslashreplace"),
        }
        # What was said may be in it.
        descriptor = os.open(self._rejects, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "ab") as file:  # noqa: PTH123 - of a descriptor
            file.write(msgspec.json.encode(told) + b"\n")
