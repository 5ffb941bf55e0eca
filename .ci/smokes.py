"""Try every suite in suites/, or those that are named: `eavit-bench run SUITE --smoke`. Exit code 1 if one failed."""

import subprocess
import sys
from pathlib import Path
from time import monotonic


def main(names: list[str]) -> int:
    suites = [str(path) for path in sorted(Path("suites").glob("*.toml")) if not path.name.endswith(".claims.toml")]
    failed = []
    for suite in names or suites:
        print(f"\n== {suite}", flush=True)
        start = monotonic()
        if subprocess.run(["eavit-bench", "run", suite, "--smoke", "--workers", "2"]).returncode:
            failed.append(suite)
        print(f"{suite}: {monotonic() - start:.0f} seconds", flush=True)
    print(f"failed: {', '.join(failed)}" if failed else "every smoke passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
