"""Fixtures of the tests of methods."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from eavit.methods.fitting import digest_of


@dataclass(frozen=True)
class Fitted:
    """One fit of a method: what it was given, and digests of the weights and of the teacher's before and after it."""

    run: Any
    plan: Any
    vit: Any
    teacher: Any
    before: tuple[str, str | None]
    after: tuple[str, str | None]


@pytest.fixture
def watch_fits(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], list[Fitted]]:
    """All fits of a method's module from now on, as they happen."""

    def watch(module: ModuleType) -> list[Fitted]:
        seen: list[Fitted] = []
        real = module.train

        def spy(vit: Any, plan: Any, run: Any, teacher: Any = None) -> None:
            before = digest_of(vit), teacher and digest_of(teacher)
            real(vit, plan, run, teacher)
            seen.append(Fitted(run, plan, vit, teacher, before, (digest_of(vit), teacher and digest_of(teacher))))

        monkeypatch.setattr(module, "train", spy)
        return seen

    return watch
