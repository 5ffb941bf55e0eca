"""Import strings to callables, and suite options to calls, with an error that says what a person must mend."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from harness.nearest import choices

API = 1  # of harness/protocol.py: grows when a method that was right before is not right any more


class PluginError(ValueError):
    """A ``use = "module:attribute"`` that cannot be called as the suite asks."""


class PluginVersionError(PluginError):
    """A method written for another protocol: only what needs it is lost."""


class PluginImportError(PluginError):
    """The module is not there or fails while it is imported: only what needs it is lost."""


def resolve(use: str) -> Callable[..., Any]:
    """The callable that ``module:attribute`` names."""
    module_name, colon, attribute = use.partition(":")
    if not (module_name and colon and attribute):
        raise PluginError(f"use = {use!r}: must be written module:attribute, such as eavit.methods:ea_vit")
    module = _module(use, module_name)
    if not hasattr(module, attribute):
        public = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
        raise PluginError(f"use = {use!r}: {module_name} has no {attribute!r}; {choices(attribute, sorted(public))}")
    found = getattr(module, attribute)
    if not callable(found):
        raise PluginError(f"use = {use!r}: is {type(found).__name__}, not a callable")
    return found  # type: ignore[no-any-return]  # whatever the plugin holds there


def check_options(use: str, options: Mapping[str, Any], supplied: Iterable[str] = ()) -> Callable[..., Any]:
    """The callable, after its signature was found to take ``options`` and what the bench itself supplies."""
    found = resolve(use)
    try:
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):
        return found  # some callables written in C show no signature; the call will tell
    by_name = {name: p for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    free = [name for name in by_name if name not in supplied]
    faults = [
        f"options.{key}: unknown option; {choices(key, free)}" for key in options if key not in free and not anything
    ]
    faults += [f"options.{key}: set by the bench itself" for key in options if key in supplied]
    faults += [
        f"options.{name}: missing; it has no default"
        for name, p in by_name.items()
        if p.default is p.empty and name not in options and name not in supplied
    ]
    faults += [f"must take {name}" for name in supplied if name not in by_name and not anything]
    if faults:
        raise PluginError(f"use = {use!r}: " + "; ".join(faults))
    return found


def build(use: str, options: Mapping[str, Any]) -> Any:
    """The method (:class:`harness.protocol.Method`) that the callable makes of ``options``."""
    found = check_options(use, options)
    try:
        method = found(**options)
    except (TypeError, ValueError) as error:
        raise PluginError(f"use = {use!r}: options {dict(options)} were refused: {error}") from error
    lacking = [name for name in ("name", "adapt") if not hasattr(method, name)]
    if lacking or not callable(method.adapt):
        said = f"lacks {' and '.join(lacking)}" if lacking else "has an adapt that cannot be called"
        raise PluginError(f"use = {use!r}: gave {type(method).__name__}, which is no method: it {said}")
    asked = getattr(method, "api", API)
    if asked != API:
        raise PluginVersionError(
            f"use = {use!r}: was written for api = {asked!r} of the protocol; this bench has {API}"
        )
    return method


def describe(module_name: str, taking: str | None = None) -> list[tuple[str, str]]:
    """``(name, first line of its docstring)`` for a module's public functions: its ``__all__``, else what it defines.

    With ``taking``, only those that have a parameter of that name.
    """
    module = _module(module_name, module_name)
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module_name]
    names = getattr(module, "__all__", [name for name in own if not name.startswith("_")])
    found = [(name, getattr(module, name, None)) for name in names]
    chosen = [(name, f) for name, f in found if callable(f) and (taking is None or _takes(f, taking))]
    return [(name, (inspect.getdoc(f) or "").partition("\n")[0]) for name, f in chosen]


def cards(module_name: str) -> list[tuple[str, str, Mapping[str, Any]]]:
    """As :func:`describe`, each with the card of the method that it makes when asked for nothing special.

    The card is empty where there is none, and where the method cannot be made without options.
    """
    found = []
    for name, first in describe(module_name):
        try:
            card = getattr(build(f"{module_name}:{name}", {}), "card", None)
        except PluginError:
            card = None
        found.append((name, first, card if isinstance(card, Mapping) else {}))
    return found


def _takes(found: Callable[..., Any], parameter: str) -> bool:
    try:
        return parameter in inspect.signature(found).parameters
    except (TypeError, ValueError):
        return False


def _module(use: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        why = "no such module" if name == missing or name.startswith(missing + ".") else f"it needs {missing}"
        raise PluginImportError(f"use = {use!r}: {name} cannot be imported: {why}") from error
    except Exception as error:  # a plugin may fail at import in any way it likes
        raise PluginImportError(f"use = {use!r}: {name} fails at import: {type(error).__name__}: {error}") from error
