"""The command line of `python -m benchmarks.serving`."""

import argparse
import os
from pathlib import Path

from app.settings import PREFIX

_LARGE_MACHINE = 8


def parse() -> argparse.Namespace:
    """The arguments; ends the process with a usage message where they make no sense."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    _add_subject(parser)
    _add_load(parser)
    arguments = parser.parse_args()
    if arguments.start and (arguments.engine_socket or arguments.pid):
        parser.error("--start knows the socket and the process of what it starts")
    if not arguments.start and arguments.key is None:
        parser.error("an API key is needed: --key or CHATGLM_API_KEY")
    return arguments


def _add_subject(parser: argparse.ArgumentParser) -> None:
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--url", help="a running service")
    subject.add_argument("--start", action="store_true", help="start an engine and a service, and stop them at the end")
    key = os.environ.get(f"{PREFIX}API_KEY")
    parser.add_argument("--key", default=key, help="an API key; default: CHATGLM_API_KEY; --start can do without")
    running = parser.add_argument_group("with --url")
    running.add_argument("--engine-socket", type=Path, help="drive the service's engine directly too, and compare")
    running.add_argument(
        "--pid", type=int, help="the API process, if on this machine: its memory and time are reported"
    )
    own = parser.add_argument_group("with --start")
    own.add_argument("--engine", choices=("native", "scripted"), default="native")
    own.add_argument("--model", default="auto", help="a directory, a hub id, auto or demo")
    own.add_argument(
        "--engine-option",
        action="append",
        default=[],
        help="one more of python -m services.inference, as in --engine-option=--scripted-rate=1000",
    )
    own.add_argument(
        "--database-url", help="PostgreSQL, say; without --key it must have no tenant. Default: a new SQLite file"
    )


def _add_load(parser: argparse.ArgumentParser) -> None:
    load = parser.add_argument_group("load")
    load.add_argument("--concurrency", type=_levels, default=[1, 8, 32], help="streams at once, as in 1,8,32")
    load.add_argument("--requests", type=_positive, help="in a round; default: one for each stream, at least 4")
    load.add_argument("--rounds", type=_positive, default=3, help="counted rounds on each side, alternating")
    load.add_argument("--warmup", type=int, default=1, help="requests of each stream before a level that do not count")
    length = load.add_mutually_exclusive_group()
    length.add_argument("--prompt-tokens", type=_positive, default=64, help="about; the chat template's included")
    length.add_argument("--prompt", help="the prompt itself; {counter} in it becomes a number, else it begins with one")
    load.add_argument("--max-tokens", type=_positive, default=128, help="new tokens at the most")
    load.add_argument("--temperature", type=float, default=0.0, help="0 makes answers of both sides equally long")
    load.add_argument("--timeout", type=float, default=600.0, help="seconds for an answer")
    load.add_argument(
        "--processes",
        type=_positive,
        default=4 if (os.cpu_count() or 1) >= _LARGE_MACHINE else 1,
        help="client processes; default: 4 on machines of 8 cores and more, else 1",
    )
    parser.add_argument("--json", type=Path, help="write the report there too; - for standard output")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _levels(text: str) -> list[int]:
    return [_positive(one) for one in text.split(",")]
