"""The environment variables of a job's process: those that are allowed, and those that bound its threads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ALLOWED = re.compile(
    "PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_.*|TZ|VIRTUAL_ENV|LD_LIBRARY_PATH|MPLBACKEND|WANDB_MODE"
    "|PYTHON(PATH|UTF8|IOENCODING|NOUSERSITE|SAFEPATH|WARNINGS|FAULTHANDLER|DONTWRITEBYTECODE|PYCACHEPREFIX)"
    "|(EAVIT|HF|XDG|CUDA|NVIDIA|NCCL|CUBLAS|OMP|KMP|MKL|OPENBLAS|MALLOC|PYTORCH)_.*|TORCH_HOME"
    "|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(?i:(https?|ftp|all|no)_proxy)"
)
SECRET = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE", re.IGNORECASE)


def clean(base: Mapping[str, str], folder: Path, threads: int = 1) -> dict[str, str]:
    """Variables of a job: of ``base`` only what is allowed, for what else is set can change numbers or be a secret.

    Imports do not depend on the working folder of the job: ``folder``, that of the caller, is on the path.
    """
    package = Path(__file__).resolve().parents[2]
    own = (str(folder / part) for part in base.get("PYTHONPATH", "").split(os.pathsep) if part)
    paths = dict.fromkeys([str(package), str(folder), *own])
    allowed = {name: value for name, value in base.items() if _is_allowed(name)}
    fixed = {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    return {**allowed, **dict.fromkeys(THREADS, str(threads)), **fixed}


def _is_allowed(name: str) -> bool:
    return name == "HF_TOKEN" or (ALLOWED.fullmatch(name) is not None and SECRET.search(name) is None)
