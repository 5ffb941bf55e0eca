"""Call a function that may do anything, in a process of its own and with a deadline."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.jobs.environment import NO_PROJECT, ProjectVariables
from harness.jobs.files import UnreadableError, parse_json, read_regular
from harness.jobs.fork_server import ForkServer
from harness.jobs.job import Ending, Job, JobFolder, JobLimits, entry_function
from harness.jobs.local import LocalExecutor
from harness.jobs.logs import scrubbed
from harness.jobs.processes import temporary_folder

LIMIT = 16 * 2**20  # bytes of an answer
PAUSE = 0.01  # seconds between two looks at the process


class CallError(ValueError):
    """Raised when a call gave no result: what it raised, how its process ended, or that the deadline passed.

    ``log``: the end of what it printed. ``late``: the deadline passed.
    """

    def __init__(self, reason: str, log: str = "", *, late: bool = False) -> None:
        super().__init__(reason)
        self.log, self.late = log, late


def call(
    entry: str,
    payload: object,
    deadline: float,
    project: ProjectVariables = NO_PROJECT,
    memory_mib: float | None = None,
    server: ForkServer | None = None,
    threads: int = 1,
) -> Any:
    """Call the function that ``module:function`` names with a JSON value and return the JSON value that it gives.

    It runs in a scratch folder, in a process that is ended with all it started after ``deadline`` seconds. CallError
    whatever else happens: an exception of any kind, an exit, a crash, a value that is not JSON. ``project``:
    further variables of its environment. ``memory_mib``: what it may take; None: what the machine has, a tenth less.
    ``server``: forks the process, else it is a fresh interpreter; all jobs of a server have as many ``threads``.
    """
    limits = JobLimits(deadline, memory_mib)
    job = Job("call", f"{__name__}:answer", {"entry": entry, "payload": payload}, limits, threads=threads)
    with temporary_folder("call-") as root:
        ending, folder = _run(job, LocalExecutor(root, 1, server=server, project=project))
        try:
            answer = parse_json(read_regular(folder.result, LIMIT), entry)
            if not isinstance(answer, dict) or not answer.keys() & {"result", "error"}:
                raise UnreadableError(f"{entry}: not an answer")
        except UnreadableError as error:
            reason = ending.reason or scrubbed(str(error))
            raise CallError(reason, ending.log, late=ending.status == "timeout") from None
    if "error" in answer:
        raise CallError(scrubbed(str(answer["error"])), ending.log)
    return answer["result"]


def call_each(
    entry: str,
    payloads: Sequence[object],
    deadline: float,
    project: ProjectVariables = NO_PROJECT,
    memory_mib: float | None = None,
    server: ForkServer | None = None,
    threads: int = 1,
) -> list[Any]:
    """Results of the function for each payload, all in one process as long as that lives.

    A payload at which the process raises or ends has its CallError in place of a result, and another process goes on
    with the next one. So has one that takes a whole deadline by itself.
    """
    results: list[Any] = []
    with temporary_folder("calls-") as folder:
        while len(results) < len(payloads):
            done = folder / f"{len(results)}.jsonl"
            request = {"entry": entry, "payloads": payloads[len(results) :], "done": str(done)}
            try:
                results += call(f"{__name__}:_each", request, deadline, project, memory_mib, server, threads)
            except CallError as error:
                before = _whole_lines(done)
                results += [*before, *([] if error.late and before else [error])]
    return results[: len(payloads)]


def _each(request: dict[str, Any]) -> list[Any]:
    function, results = entry_function(request["entry"]), []
    with Path(request["done"]).open("w", encoding="utf-8") as done:
        for payload in request["payloads"]:
            results.append(function(payload))
            done.write(json.dumps(results[-1], allow_nan=False) + "\n")
            done.flush()
    return results


def _whole_lines(path: Path) -> list[Any]:
    try:
        return [parse_json(line, str(path)) for line in read_regular(path, LIMIT).split(b"\n")[:-1]]
    except UnreadableError:
        return []


def _run(job: Job, executor: LocalExecutor) -> tuple[Ending, JobFolder]:
    running = executor.start(job)
    try:
        while not running.ended():
            time.sleep(PAUSE)
    finally:
        ending = running.finish()
    return ending, running.folder


def answer(job: Job, folder: JobFolder) -> None:
    """Entry of the process: leave the result of the call, or what it raised."""
    try:
        result = entry_function(job.payload["entry"])(job.payload["payload"])
        text = json.dumps({"result": result}, allow_nan=False)
    except BaseException as error:  # a stranger's code may raise anything
        traceback.print_exc()
        text = json.dumps({"error": describe_exception(error)})
    beside = folder.out / "answer.tmp"
    beside.write_text(text, encoding="utf-8")
    beside.rename(folder.result)


def describe_exception(error: BaseException) -> str:
    """Type and text of an exception, whose ``__str__`` may raise."""
    try:
        text = str(error)
    except Exception as other:
        text = f"its text cannot be read: {type(other).__name__}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
