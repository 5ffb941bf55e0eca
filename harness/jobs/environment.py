"""The environment variables of a job's process: those that are allowed, and those that limit its threads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PRELOAD, FORK_FOLDER = "JOBS_PRELOAD", "JOBS_FORK_FOLDER"  # of a fork server: what it imports, where its socket is
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ALLOWED = re.compile(
    "PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_.*|TZ|VIRTUAL_ENV|LD_LIBRARY_PATH|MPLBACKEND|WANDB_MODE"
    "|PYTHON(PATH|UTF8|IOENCODING|NOUSERSITE|SAFEPATH|WARNINGS|FAULTHANDLER|DONTWRITEBYTECODE|PYCACHEPREFIX)"
    "|(HF|XDG|CUDA|NVIDIA|NCCL|CUBLAS|OMP|KMP|MKL|OPENBLAS|MALLOC|PYTORCH)_.*|TORCH_HOME"
    "|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(?i:(https?|ftp|all|no)_proxy)"
)
SECRET = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE", re.IGNORECASE)


@dataclass(frozen=True)
class ProjectVariables:
    """Variables that a project adds. ``prefix``: how the names of its own variables begin, which are allowed.

    ``folders``: variables that name a folder, each with its default; relative ones become absolute.
    """

    prefix: str | None = None
    folders: Mapping[str, str] = field(default_factory=dict)


NO_PROJECT = ProjectVariables()


def clean(
    base: Mapping[str, str], folder: Path, threads: int = 1, project: ProjectVariables = NO_PROJECT
) -> dict[str, str]:
    """Variables of a job: of ``base`` only what is allowed, for what else is set can change numbers or be a secret.

    Imports do not depend on the working folder of the job: ``folder``, that of the caller, is on the path.
    """
    package = Path(__file__).resolve().parents[2]
    inherited = (str(folder / part) for part in base.get("PYTHONPATH", "").split(os.pathsep) if part)
    paths = dict.fromkeys([str(package), str(folder), *inherited])
    allowed = {name: value for name, value in base.items() if _is_allowed(name, project.prefix)}
    fixed = {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    folders = {
        name: str(folder / Path(base.get(name, default)).expanduser()) for name, default in project.folders.items()
    }
    return {**allowed, **dict.fromkeys(THREADS, str(threads)), **fixed, **folders}


def _is_allowed(name: str, prefix: str | None) -> bool:
    known = ALLOWED.fullmatch(name) is not None or (prefix is not None and name.startswith(prefix))
    return name == "HF_TOKEN" or (known and SECRET.search(name) is None)
