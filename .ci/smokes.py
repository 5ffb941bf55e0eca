"""Try every suite in suites/, or those that are named, as `eavit-bench run SUITE --smoke` does, but in one process and
with one fork server: what all need is imported once. Exit code 1 if one failed.
"""

import resource
import sys
import traceback
from pathlib import Path
from time import monotonic

import typer

from harness.commands.open_suite import open_smoke
from harness.commands.options import INTERRUPTED, Machines, Where, Which
from harness.commands.run import run_opened
from harness.jobs.fork_server import ForkServer
from harness.sweep import executors

WHICH = Which(workers=2)


def main(names: list[str]) -> int:
    suites = [str(path) for path in sorted(Path("suites").glob("*.toml")) if not path.name.endswith(".claims.toml")]
    failed, server = [], None
    for suite in names or suites:
        print(f"\n== {suite}", flush=True)
        start = monotonic()
        passed, server = smoke(suite, server)
        failed += [] if passed else [suite]
        print(f"{suite}: {monotonic() - start:.0f} seconds", flush=True)
    if server is not None:
        server.close()
    print(f"failed: {', '.join(failed)}" if failed else "every smoke passed")
    print(f"{sum(map(processor_seconds, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))):.0f} processor seconds")
    return 1 if failed else 0


def smoke(suite: str, server: ForkServer | None) -> tuple[bool, ForkServer | None]:
    """Return whether it passed, and the fork server that it used."""
    try:
        opened = open_smoke(suite, Where())
        settings = opened.settings(WHICH)
        local = executors.on_this_machine(opened.suite, settings, server)
        server = local.server
        run_opened(opened, WHICH, settings, Machines(), local, smoke=True)
    except typer.Exit as end:
        if end.exit_code == INTERRUPTED:
            raise KeyboardInterrupt from None
        return not end.exit_code, server
    except Exception:  # the next suite may be well
        traceback.print_exc()
        return False, server
    return True, server


def processor_seconds(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
