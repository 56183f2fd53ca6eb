"""`python -m tools.admin`: the administrator's command line."""

import sys

import typer

from app.refusal import refusal
from tools.admin import (
    audit_command,
    database_command,
    erase_command,
    key_command,
    limit_command,
    model_command,
    tenant_command,
    usage_command,
)

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
cli.add_typer(database_command.cli, name="database")
tenant_command.cli.command(name="erase")(erase_command.tenant)
cli.add_typer(tenant_command.cli, name="tenant")
cli.add_typer(key_command.cli, name="key")
cli.add_typer(model_command.cli, name="model")
cli.add_typer(erase_command.cli, name="erase")
cli.add_typer(limit_command.cli, name="limit")
cli.command()(usage_command.usage)
cli.command()(audit_command.audit)
cli.command()(erase_command.purge)


def main() -> None:
    """Run one command; what an administrator can put right is said in a sentence, with exit status 1."""
    try:
        cli()
    except Exception as error:
        if (sentence := refusal(error)) is None:
            raise
        print(sentence, file=sys.stderr)  # noqa: T201 - a command line speaks on its terminal
        sys.exit(1)


if __name__ == "__main__":
    main()
