"""`python -m app`: the whole service, from the first key to the last answer."""

import signal

if __name__ == "__main__":
    # A Ctrl-C while the rest is imported ends this as it ends any command: without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import asyncio
import logging
import socket
import sys

from app.bootstrap import bootstrap
from app.common.logging import configure_logging
from app.instance import claim_instance
from app.refusal import CannotStart, refusal
from app.secret import secret_of
from app.settings import Settings, load_settings
from app.supervisor import Supervisor
from database.clock_skew import LONGEST_SKEW, clock_skew
from database.engine import create_engine
from database.outage import GRANTS
from database.revision import is_current, upgrade
from database.role import lacking_right, why_unbound
from database.session import Database
from services.key_service import holds_keys_of
from services.key_token import Peppers

log = logging.getLogger("app")


def main() -> int:
    """Run until stopped; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m app", description="The whole service.")
    parser.add_argument("--upgrade", action="store_true", help="bring the database's schema up to this version first")
    upgrades = parser.parse_args().upgrade
    try:
        settings = load_settings()
        configure_logging(settings.log_level, settings.log_format)
        with claim_instance(settings.data_dir) as instance, _listen(settings) as listener:
            supervisor = Supervisor(settings, listener, instance)
            return asyncio.run(supervisor.run(lambda: _prepare(settings, listener, upgrades=upgrades)))
    except Exception as error:
        if (sentence := refusal(error)) is None:
            raise
        print(f"The service cannot start.\n{sentence}", file=sys.stderr)  # noqa: T201 - for the person who started it
        return 2


async def _prepare(settings: Settings, listener: socket.socket, *, upgrades: bool) -> None:
    """The database, as far as the API needs it: reachable, of this version, with somebody to serve."""
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{settings.root_path}"
    if upgrades:
        await asyncio.to_thread(upgrade, settings.migration_database)
    engine = create_engine(settings.database)
    database = Database(engine)
    try:
        await database.ping()
        if not await is_current(engine):
            raise CannotStart("The schema is not this version's: run 'python -m tools.admin database upgrade'.")
        if (right := await lacking_right(engine)) is not None:
            raise CannotStart(f"The role of CHATGLM_DATABASE_URL has no right to {right}. {GRANTS}")
        if settings.env == "production" and (reason := await why_unbound(engine)) is not None:
            raise CannotStart(
                f"The role of CHATGLM_DATABASE_URL {reason}: PostgreSQL would not surely keep tenants apart. Make the "
                "two roles of database/roles.sql, or set CHATGLM_ENV=development."
            )
        if abs(skew := await clock_skew(database)) > LONGEST_SKEW:
            raise CannotStart(
                f"This machine's clock is {skew.total_seconds():+.0f} s off the database's, by which leases and limits "
                "are counted: put it right."
            )
        secret = await secret_of(database, settings)
        await bootstrap(settings, database, secret, url)
        if await holds_keys_of(database, Peppers(secret, *settings.former_secrets)) is False:
            log.warning(
                "every key of the database is refused, since none was made with CHATGLM_SECRET or CHATGLM_OLD_SECRETS; "
                "if their secret is lost: python -m tools.admin key create --force"
            )
    finally:
        await database.close()
    log.info("listening on %s (description: %s/docs)", url, url)


def _listen(settings: Settings) -> socket.socket:
    # Bound here, before anything is loaded: a port that is taken is found at once, and a restarted API loses no caller.
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise CannotStart(f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.") from error


if __name__ == "__main__":
    sys.exit(main())
