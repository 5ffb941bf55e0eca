"""Optional packages: imported when they are needed, named with the line that installs them where they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingExtraError(ImportError):
    """An optional package that is needed here is not installed; the message has the line that installs it."""


def needed(module: str, extra: str, what: str) -> Any:
    """The optional module; MissingExtraError if it cannot be imported. ``what`` needs it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.replace("_", "-")
        raise MissingExtraError(
            f"{what} needs the package {package} ({error}); install the extra `{extra}`: "
            f"pip install 'eavit-bench[{extra}]'"
        ) from error
