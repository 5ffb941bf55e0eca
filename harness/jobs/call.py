"""Call a function that may do anything, in a process of its own and with a deadline.

``python -m harness.jobs.call FOLDER`` is that process. What is imported there never runs in the caller's process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from harness.jobs import environment, processes, supervisor
from harness.jobs.files import UnreadableError, parse_json, read_regular
from harness.jobs.logs import CappedLog, scrubbed

REQUEST, ANSWER = "request.json", "answer.json"
LIMIT = 16 * 2**20  # bytes of an answer
GRACE = 5.0  # seconds for the supervisor to end what it started


class CallError(ValueError):
    """Raised when a call gave no result: what it raised, how its process ended, or that the deadline passed.

    ``log``: the end of what it printed.
    """

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(reason)
        self.log = log


def call(entry: str, payload: object, deadline: float) -> Any:
    """Call the function that ``module:function`` names with a JSON value and return the JSON value that it gives.

    It runs in a scratch folder, in a process that is ended with all it started after ``deadline`` seconds. CallError
    whatever else happens: an exception of any kind, an exit, a crash, a value that is not JSON.
    """
    with tempfile.TemporaryDirectory(prefix="eavit-call-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "scratch").mkdir()
        (folder / REQUEST).write_text(json.dumps({"entry": entry, "payload": payload}), encoding="utf-8")
        reason, log = _run(folder, deadline)
        try:
            answer = parse_json(read_regular(folder / ANSWER, LIMIT), entry)
            if not isinstance(answer, dict) or not answer.keys() & {"result", "error"}:
                raise UnreadableError(f"{entry}: not an answer")
        except UnreadableError as error:
            raise CallError(reason or scrubbed(str(error)), log) from None
        if "error" in answer:
            raise CallError(scrubbed(str(answer["error"])), log)
        return answer["result"]


def call_each(entry: str, payloads: Sequence[object], deadline: float) -> list[Any]:
    """Results of one call for all payloads; where that fails, of one call for each.

    Where that fails too, the CallError stands in place of the result.
    """
    try:
        return list(call("harness.jobs.call:_each", [entry, *payloads], deadline))
    except CallError as error:
        return [error] if len(payloads) == 1 else [call_each(entry, [each], deadline)[0] for each in payloads]


def _each(request: list[Any]) -> list[Any]:
    function = resolve(request[0])
    return [function(payload) for payload in request[1:]]


def _run(folder: Path, deadline: float) -> tuple[str, str]:
    """Why there can be no answer, if so, and the log."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.jobs.call", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder / "scratch",
        env={**environment.clean(os.environ, Path.cwd()), "TMPDIR": str(folder / "scratch")},
        start_new_session=True,
    )
    if process.stdout is None or process.stdin is None:
        raise RuntimeError("a pipe was asked for and not given")
    log, late = CappedLog(process.stdout, folder / "log.txt"), False
    try:
        process.wait(deadline)
    except subprocess.TimeoutExpired:
        late = True
    finally:
        _end(process)
    tail = scrubbed(log.close(2.0))
    return f"no result after {deadline:g} s" if late else describe_exit(process.returncode), tail


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe that keeps the supervisor waiting; if it does not move, end all from here."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        processes.kill_descendants(process.pid, GRACE)
        process.kill()
        process.wait()


def describe_exit(code: int) -> str:
    """How a process ended that left no result."""
    if code >= 0:
        return f"exit code {code} without a result"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"crashed with {name}"


def main(arguments: Sequence[str]) -> NoReturn:
    supervisor.fork_worker()
    folder = Path(arguments[0])
    answer = _answer(parse_json(read_regular(folder / REQUEST), REQUEST))
    beside = folder / f".{ANSWER}"
    beside.write_bytes(answer)
    beside.rename(folder / ANSWER)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads that were left running are not waited for


def _answer(request: dict[str, Any]) -> bytes:
    try:
        result = resolve(request["entry"])(request["payload"])
        return json.dumps({"result": result}, allow_nan=False).encode()
    except BaseException as error:  # a stranger's code may raise anything
        traceback.print_exc()
        return json.dumps({"error": describe(error)}).encode()


def resolve(entry: str) -> Callable[..., Any]:
    """The function that ``module:function`` names."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)  # type: ignore[no-any-return]  # whatever the module holds there


def describe(error: BaseException) -> str:
    """Type and text of an exception, whose ``__str__`` may raise."""
    try:
        text = str(error)
    except Exception as other:
        text = f"its text cannot be read: {type(other).__name__}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1:])
