"""The deep check of a suite: everything it names is imported and asked, before any cell is started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from harness import plugins
from harness.data.locations import DataError, source_files, with_dataset_name
from harness.plugins import PluginError, PluginImportError, PluginVersionError
from harness.suite import Suite


@dataclass(frozen=True, slots=True)
class Fault:
    """``fatal``: no cell can be right, or the suite was written wrongly. Others cost only the cells that need them."""

    text: str
    fatal: bool


def faults(suite: Suite, where: str) -> list[Fault]:
    """All faults of backbone, methods and data folders. Imports what the suite names, so possibly torch."""
    return [*_backbone(suite, where), *_methods(suite, where), *_folders(suite, where)]


def cards(suite: Suite) -> dict[str, dict[str, Any]]:
    """Method -> its card, of those that can be built and have one."""
    found = {}
    for method in suite.methods:
        try:
            card = getattr(plugins.build(method.use, method.options), "card", None)
        except PluginError:
            continue
        if card:
            found[method.name] = dict(card)
    return found


def data_faults(suite: Suite, where: str, told: Callable[[str], None]) -> list[Fault]:
    """Load every data set for real; ``told`` hears what is in each."""
    from harness.data import loading

    found = []
    for index, entry in enumerate(suite.datasets):
        try:
            loaded = loading.load_dataset(entry, suite.input)
        except DataError as error:
            found.append(Fault(f"{where}: datasets[{index}]: {error}", fatal=False))
        else:
            sizes = ", ".join(f"{name} {size}" for name, size in loaded.sizes.items())
            told(f"{entry.name}: {loaded.num_classes} classes; {sizes}")
    return found


def _backbone(suite: Suite, where: str) -> Iterator[Fault]:
    try:
        plugins.check_options(suite.backbone.use, suite.backbone.options, supplied=("num_classes",))
    except PluginError as error:
        yield Fault(f"{where}: backbone: {error}", fatal=True)


def _methods(suite: Suite, where: str) -> Iterator[Fault]:
    for index, method in enumerate(suite.methods):
        try:
            plugins.build(method.use, method.options)
        except PluginError as error:
            yield Fault(
                f"{where}: methods[{index}]: {error}",
                fatal=not isinstance(error, PluginImportError | PluginVersionError),
            )


def _folders(suite: Suite, where: str) -> Iterator[Fault]:
    for index, entry in enumerate(suite.datasets):
        try:
            source_files(entry.source, entry.path)
        except DataError as error:
            yield Fault(
                f"{where}: datasets[{index}]: {with_dataset_name(entry.name, entry.source, error)}", fatal=False
            )
