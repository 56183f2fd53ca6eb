"""The engine's process: `python -m services.inference`, a server of its own on a Unix socket."""

import argparse
import asyncio
import faulthandler
import logging
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.common.logging import configure_logging
from services.inference.engine import EngineCore
from services.inference.engine_server import EngineServer
from services.inference.progress import Progress
from services.inference.scripted import ScriptedCore

log = logging.getLogger("services.inference")

# EX_CONFIG of sysexits: starting again would end the same way.
_UNUSABLE = 78
_SCRIPTED_RUNNING = 16


def main() -> int:
    """Serve until told to stop, or until whoever started this is gone; the exit status."""
    arguments = _arguments()
    configure_logging(arguments.log_level, arguments.log_format)
    # The stacks of all threads, also if a library brings the process down.
    faulthandler.enable()
    # The socket is for this user alone.
    os.umask(0o077)
    return asyncio.run(_serve(arguments))


async def _serve(arguments: argparse.Namespace) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    lifeline = asyncio.create_task(_lifeline(stopping))
    server = EngineServer(max_queued=arguments.max_queued, max_queued_tokens=arguments.max_queued_tokens)
    await server.listen(arguments.socket)
    with Progress() as progress:

        def report(fraction: float, stage: str) -> None:
            progress.show(fraction, stage)
            loop.call_soon_threadsafe(server.report, fraction, stage)

        loading = _in_thread(lambda: _build(arguments, report))
        either: list[asyncio.Future[Any]] = [loading, asyncio.ensure_future(stopping.wait())]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        # A thread that loads cannot be stopped; the process can.
        os._exit(0)
    core = loading.result()
    if core is not None:
        _announce(core)
        server.serve(core)
        await stopping.wait()
    lifeline.cancel()
    await server.close()
    return _UNUSABLE if core is None else 0


def _in_thread(work: Callable[[], EngineCore | None]) -> asyncio.Future[EngineCore | None]:
    """Do this in a thread that a process which is told to stop does not wait for, as it would for an executor's."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[EngineCore | None] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - the waiting task raises it
            loop.call_soon_threadsafe(done.set_exception, error)
        else:
            loop.call_soon_threadsafe(done.set_result, result)

    threading.Thread(target=run, name="loading", daemon=True).start()
    return done


async def _lifeline(stopping: asyncio.Event) -> None:
    # Whoever started this holds the other end of standard input; killed, it cannot say goodbye, but the pipe ends.
    if not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        # Started on its own, it stops when it is told to.
        return
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    stopping.set()


def _build(arguments: argparse.Namespace, report: Callable[[float, str], None]) -> EngineCore | None:
    if arguments.engine == "scripted":
        return ScriptedCore(rate=arguments.scripted_rate, max_running=arguments.max_running or _SCRIPTED_RUNNING)
    report(0.0, "importing torch")
    # Before torch is imported: threads that spin while they wait starve the API on a small machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    from services.inference.native.build import build  # noqa: PLC0415 - torch is heavy, and not always wanted
    from services.inference.native.errors import ModelError  # noqa: PLC0415

    for library in ("transformers", "huggingface_hub"):
        # Imported, they write to standard error by themselves, and not as we do.
        logging.getLogger(library).handlers.clear()
        logging.getLogger(library).propagate = True
    try:
        return build(
            arguments.model,
            cache_dir=arguments.cache_dir,
            revision=arguments.revision,
            max_running=arguments.max_running,
            device=arguments.device,
            attention=arguments.attention,
            step_seconds=arguments.step_seconds,
            progress=report,
        )
    except ModelError as error:
        log.error("The model %s cannot be served: %s", arguments.model, error)
        return None


def _announce(core: EngineCore) -> None:
    limits = core.limits
    log.info("ready: %s, context window %d tokens", limits.model, limits.context_window)
    if limits.demo:
        log.warning("this is the bundled demo model: small, English only, often wrong; set CHATGLM_MODEL for another")


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.inference")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen")
    parser.add_argument("--engine", choices=("native", "scripted"), default="native")
    parser.add_argument("--max-running", type=int, default=None, help="answers generated at once")
    parser.add_argument("--max-queued", type=int, default=64, help="requests that may wait")
    parser.add_argument("--max-queued-tokens", type=int, default=None, help="of what runs and waits, answers included")
    parser.add_argument("--step-seconds", type=float, default=None, help="longest step before it counts as hung")
    parser.add_argument("--model", default="auto", help="a directory, a hub id, auto or demo")
    parser.add_argument("--revision", default=None, help="branch, tag or commit of a hub id")
    parser.add_argument("--cache-dir", type=Path, default=Path("cache"), help="where a converted model is kept")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=None)
    parser.add_argument("--attention", choices=("auto", "flash", "mixed", "triton", "sdpa"), default="auto")
    # One core is left to the rest of the service.
    parser.add_argument("--threads", type=int, default=max(1, _cores() - 1))
    parser.add_argument("--scripted-rate", type=float, default=50.0)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", choices=("auto", "json", "text"), default="auto")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
