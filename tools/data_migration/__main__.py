"""`python -m tools.data_migration`: what an administrator moves, brings in, takes out and removes."""

import sys

import typer

from app.refusal import refusal
from tools.admin import erase_command
from tools.data_migration import copy_command, export_command, import_command, schema_command, verify_command
from tools.data_migration.exit_status import WRONG

PURGE_EXAMPLES = "Example: python -m tools.data_migration purge --dry-run"
cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
cli.command(epilog=copy_command.COPY_EXAMPLES)(copy_command.copy)
cli.command(epilog=copy_command.RELEASE_EXAMPLES)(copy_command.release)
cli.command(epilog=export_command.EXAMPLES)(export_command.export)
cli.command(name="import", epilog=import_command.EXAMPLES)(import_command.import_file)
erase = typer.Typer(no_args_is_help=True, help=erase_command.cli.info.help)
erase.add_typer(erase_command.cli)
erase.command()(erase_command.tenant)
cli.add_typer(erase, name="erase")
cli.command(epilog=PURGE_EXAMPLES)(erase_command.purge)
cli.command(epilog=schema_command.UPGRADE_EXAMPLES)(schema_command.upgrade)
cli.command(epilog=schema_command.DOWNGRADE_EXAMPLES)(schema_command.downgrade)
cli.command(epilog=verify_command.EXAMPLES)(verify_command.verify)


def main() -> None:
    """Run one command; what an administrator can put right is said in a sentence, with exit status 1."""
    try:
        cli()
    except Exception as error:
        if (sentence := refusal(error)) is None:
            raise
        print(sentence, file=sys.stderr)  # noqa: T201 - a command line speaks on its terminal
        sys.exit(WRONG)


if __name__ == "__main__":
    main()
