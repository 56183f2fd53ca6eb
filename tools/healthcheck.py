"""`python -m tools.healthcheck [PATH]`: exit status 0 if the service on this machine answers 200; by default /healthz.

For containers, whose settings all come from the environment: so it reads the two it needs itself, and stays cheap
enough to run every few seconds.
"""

import os
import socket
import sys

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, not listened on
_TIMEOUT = 4.0


def main(arguments: list[str]) -> int:
    """Ask once; the exit status."""
    host = os.environ.get("CHATGLM_HOST", "127.0.0.1")
    port = int(os.environ.get("CHATGLM_PORT", "8888"))
    path = arguments[0] if arguments else "/healthz"
    try:
        with socket.create_connection((_EVERYWHERE.get(host, host), port), timeout=_TIMEOUT) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answer = connection.makefile("rb").readline(1000).decode("latin-1")
    except OSError as error:
        sys.stderr.write(f"{path}: {error}\n")
        return 1
    status = answer.partition(" ")[2][:3]
    sys.stdout.write(f"{path}: {status}\n")
    return 0 if status == "200" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
