"""`python -m tests.test_faults.fuzzer NAME DIRECTORY CASES`: inputs for one parser, made by what they reach in it."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["app.controller", "app.http_protocol", "app.request_head", "schemas", "services", "tools.data_migration"]
):
    from tests.test_faults.hostile_parsers import PARSERS

# Seconds that one input may take; a busy machine is no defect.
LONGEST = 10
MOST_BYTES = 4096


def main() -> None:
    """Exits with a status other than 0 at the first input that breaks the parser, and prints it."""
    name, directory, cases = sys.argv[1:]
    parser, corpus = PARSERS[name], Path(directory)
    for at, seed in enumerate(parser.seeds):
        (corpus / f"seed-{at}").write_bytes(seed)
    options = [f"-runs={cases}", f"-timeout={LONGEST}", f"-max_len={MOST_BYTES}", "-rss_limit_mb=2048"]
    reports = ["-verbosity=0", "-print_final_stats=1", f"-artifact_prefix={corpus}/"]
    atheris.Setup([sys.argv[0], *options, *reports, str(corpus)], parser.feed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
