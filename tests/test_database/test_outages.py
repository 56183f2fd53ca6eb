"""Databases that are away, hang, are busy or full: told as such within bounds, and used again without a restart."""

import asyncio
import resource
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import func, literal, select, text

from app.common.errors import DatabaseUnavailable, Deadlocked, OutcomeUnknown, StorageFull
from database.engine import create_engine
from database.models import Conversation, Turn, TurnText
from database.outage import told
from database.prepared import Prepared
from database.session import Database
from services.turn_log import TurnLog
from tests.conftest import TwoTenants, make_tenant
from tests.postgres import PostgresServer, postgres_server
from tests.postgres_proxy import PostgresProxy, proxied
from tests.turns import a_live_turn, an_opening

_SETTING = Prepared(select(func.current_setting("chatglm.tenant_id")))
_LOCK = Prepared(select(func.pg_advisory_xact_lock(1)))
_TENANTS = ["0" * 32, "1" * 32]
# Longer than anything here may take: nothing waits for ever.
_BOUND = 30.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One of these tests' own, to stop and start."""
    with postgres_server() as server:
        yield server


@pytest.fixture
async def stoppable(server: PostgresServer) -> AsyncIterator[Database]:
    url = f"postgresql://postgres@/postgres?host={server.directory}"
    database = Database(create_engine(url, pool_size=4, timeout=2))
    yield database
    await database.close()


async def _ask(database: Database, tenant_id: str) -> str:
    ((setting,),) = await database.run_prepared(tenant_id, {}, _SETTING)
    return str(setting)


async def _ask_all(database: Database) -> list[object]:
    """In every way there is, by more callers than there are connections."""
    async with asyncio.timeout(_BOUND):
        asked = [_ask(database, tenant_id) for tenant_id in _TENANTS * 5]
        return await asyncio.gather(*asked, *(database.ping() for _ in range(3)), return_exceptions=True)


_ANSWERS = [*_TENANTS * 5, None, None, None]


async def test_a_restart_of_postgresql_needs_no_restart_of_the_service(
    server: PostgresServer, stoppable: Database
) -> None:
    assert await _ask_all(stoppable) == _ANSWERS
    for _ in range(2):
        await asyncio.to_thread(server.stop)
        assert {type(outcome) for outcome in await _ask_all(stoppable)} <= {DatabaseUnavailable, OutcomeUnknown}
        await asyncio.to_thread(server.start)
        # Connections of before are found out by themselves.
        assert await _ask_all(stoppable) == _ANSWERS
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    assert await _ask_all(stoppable) == _ANSWERS


async def test_a_postgresql_that_hangs_is_given_up_within_a_bound_and_used_again_when_it_goes_on(
    server: PostgresServer, stoppable: Database
) -> None:
    assert await _ask_all(stoppable) == _ANSWERS
    processes = server.processes()
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(2):
            assert {type(outcome) for outcome in await _ask_all(stoppable)} <= {DatabaseUnavailable, OutcomeUnknown}
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
    assert await _ask_all(stoppable) == _ANSWERS


async def test_what_waits_for_a_lock_too_long_is_taken_back_by_the_server_so_that_its_outcome_is_known(
    postgres_url: str,
) -> None:
    database, holder = [Database(create_engine(postgres_url, pool_size=4, timeout=seconds)) for seconds in (1, 60)]
    async with holder.begin_prepared(_TENANTS[0]) as transaction:
        await transaction.run({}, _LOCK)
        with pytest.raises(DatabaseUnavailable) as refusal:
            await database.run_prepared(_TENANTS[1], {}, _LOCK)
    assert not isinstance(refusal.value, OutcomeUnknown)
    await database.run_prepared(_TENANTS[1], {}, _LOCK)
    await database.close()
    await holder.close()


async def test_a_client_that_vanishes_inside_a_transaction_keeps_nothing_locked(
    postgres_url: str, postgres_directory: str
) -> None:
    proxy, other = PostgresProxy(postgres_directory), Database(create_engine(postgres_url, timeout=_BOUND))
    async with proxy.listening() as port:
        url = proxied(postgres_url, port)
        vanishing = Database(create_engine(url, pool_size=2, timeout=1))

        async def vanish() -> None:
            async with vanishing.begin_prepared(_TENANTS[0]) as transaction:
                await transaction.run({}, _LOCK)
                proxy.turn("swallow")

        with pytest.raises(OutcomeUnknown):
            await vanish()
        # Nobody tells the server; it finds out by itself.
        await other.run_prepared(_TENANTS[1], {}, _LOCK)
        await vanishing.close()
    await other.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (asyncpg.DiskFullError("x"), StorageFull),
        (asyncpg.TooManyConnectionsError("x"), DatabaseUnavailable),
        (asyncpg.AdminShutdownError("x"), OutcomeUnknown),
        (asyncpg.DeadlockDetectedError("x"), Deadlocked),
        (asyncpg.QueryCanceledError("x"), DatabaseUnavailable),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
async def test_what_postgresql_says_is_told_by_what_it_means(
    stoppable: Database, error: Exception, kind: type[Exception]
) -> None:
    with pytest.raises(DatabaseUnavailable) as refusal:
        async with stoppable.begin_prepared(_TENANTS[0]):
            raise error
    assert type(refusal.value) is kind
    assert await _ask(stoppable, _TENANTS[0]) == _TENANTS[0]


def test_why_a_login_is_refused_is_for_the_administrator_alone() -> None:
    answer = told(asyncpg.InvalidPasswordError('password authentication failed for user "glm"'))
    assert isinstance(answer, DatabaseUnavailable)
    assert answer.message == "The database cannot answer now; try again."
    assert answer.reason == 'password authentication failed for user "glm".'
    # What PostgreSQL says of statements may repeat what is in them.
    full = told(asyncpg.DiskFullError('could not extend "hush"'))
    assert isinstance(full, StorageFull)
    assert full.reason is None


async def test_a_value_that_cannot_be_sent_is_no_outage(stoppable: Database) -> None:
    given = Prepared(select(literal("\ud800")))
    with pytest.raises(asyncpg.DataError, match="invalid input"):
        await stoppable.run_prepared(_TENANTS[0], {}, given)
    assert await _ask(stoppable, _TENANTS[0]) == _TENANTS[0]


@pytest.fixture
def sqlite_path(migrated_sqlite: Path, tmp_path: Path) -> str:
    return str(shutil.copy(migrated_sqlite, tmp_path / "chatglm.db"))


async def test_sqlite_that_is_busy_is_waited_for_and_then_unavailable(sqlite_path: str) -> None:
    database = Database(create_engine(f"sqlite:///{sqlite_path}", timeout=0.5))
    patient = Database(create_engine(f"sqlite:///{sqlite_path}", timeout=_BOUND))
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                await database.ping()
            with pytest.raises(DatabaseUnavailable):
                async with database.begin_prepared(_TENANTS[0]) as transaction:
                    await transaction.run({}, Prepared(select(func.count())))
        waiting = asyncio.create_task(patient.ping())
        await asyncio.sleep(0)
        other.execute("COMMIT")
    await waiting
    await database.ping()
    await database.close()
    await patient.close()


async def _fill(database: Database, tenants: TwoTenants) -> list[str]:
    """Begin turns until the disk is full; those that began."""
    log = TurnLog(database, owner="0" * 32, lease=timedelta(seconds=30))
    begun: list[str] = []
    for _ in range(1000):
        turn = a_live_turn()
        try:
            await log.open(turn, an_opening(tenants.ours, prompt="a question " * 1000))
        except DatabaseUnavailable:
            return begun
        begun.append(turn.id)
    raise AssertionError("the disk did not fill")


async def _assert_there_is_nothing_but(database: Database, tenants: TwoTenants, begun: list[str], path: str) -> None:
    async with database.begin(tenants.ours.tenant_id) as session:
        assert set(await session.scalars(select(Turn.id))) == set(begun)
        assert set(await session.scalars(select(TurnText.turn_id))) == set(begun)
        assert await session.scalar(select(func.count()).select_from(Conversation)) == len(begun)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


async def test_a_database_that_is_full_says_so_can_be_read_and_works_again_when_there_is_room(
    sqlite_path: str,
) -> None:
    engine = create_engine(f"sqlite:///{sqlite_path}")
    database = Database(engine)
    tenants = TwoTenants(*[await make_tenant(database, name) for name in ("ours", "theirs")])
    async with engine.connect() as connection:
        pages = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
        await connection.execute(text(f"PRAGMA max_page_count = {pages + 50}"))
    begun = await _fill(database, tenants)
    with pytest.raises(StorageFull):
        await TurnLog(database, owner="0" * 32, lease=timedelta(seconds=30)).open(
            a_live_turn(), an_opening(tenants.ours, prompt="a question " * 1000)
        )
    await _assert_there_is_nothing_but(database, tenants, begun, sqlite_path)
    async with engine.connect() as connection:
        await connection.execute(text("PRAGMA max_page_count = 1073741823"))
    turn = a_live_turn()
    await TurnLog(database, owner="0" * 32, lease=timedelta(seconds=30)).open(turn, an_opening(tenants.ours))
    await _assert_there_is_nothing_but(database, tenants, [*begun, turn.id], sqlite_path)
    await database.close()


async def test_a_disk_that_refuses_to_write_corrupts_nothing(sqlite_path: str) -> None:
    database = Database(create_engine(f"sqlite:///{sqlite_path}"))
    tenants = TwoTenants(*[await make_tenant(database, name) for name in ("ours", "theirs")])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, limits[1]))
    try:
        begun = await _fill(database, tenants)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert begun
    await _assert_there_is_nothing_but(database, tenants, begun, sqlite_path)
    turn = a_live_turn()
    await TurnLog(database, owner="0" * 32, lease=timedelta(seconds=30)).open(turn, an_opening(tenants.ours))
    await _assert_there_is_nothing_but(database, tenants, [*begun, turn.id], sqlite_path)
    await database.close()
