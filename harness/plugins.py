"""Import strings to methods, backbones and data sets, with errors that say what to change.

It imports what a suite names: only for processes whose end costs nothing else (:mod:`harness.jobs.call`).
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from harness.messages import choices

API = 1  # of harness/protocol.py: grows when a method that was right before is not right any more


class PluginError(ValueError):
    """A ``use = "module:attribute"`` that cannot be called as the suite asks."""


class PluginVersionError(PluginError):
    """A method written for another protocol: only what needs it is lost."""


class PluginImportError(PluginError):
    """The module is not there or fails while it is imported: only what needs it is lost."""


def build(use: str, options: Mapping[str, Any]) -> Any:
    """The method (:class:`harness.protocol.Method`) that the callable makes of ``options``."""
    factory = resolve(use)
    if not all(callable(getattr(made, "adapt", None)) for made in declared_classes(factory)):
        raise PluginError(
            f"use = {use!r}: does not say that it makes a method: name a class that has `adapt`, or a function whose "
            "return annotation is such a class"
        )
    _check_signature(use, factory, options)
    try:
        method = factory(**options)
    except (TypeError, ValueError) as error:
        raise PluginError(f"use = {use!r}: options {dict(options)} were refused: {error}") from error
    _check_types(use, factory, options)
    lacking = [name for name in ("name", "adapt") if not hasattr(method, name)]
    if lacking or not callable(method.adapt):
        fault = f"lacks {' and '.join(lacking)}" if lacking else "has an adapt that cannot be called"
        raise PluginError(f"use = {use!r}: gave {type(method).__name__}, which is no method: it {fault}")
    written_for = getattr(method, "api", API)
    if written_for != API:
        raise PluginVersionError(
            f"use = {use!r}: was written for api = {written_for!r} of the protocol; this bench has {API}"
        )
    return method


def backbone(use: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """The callable that makes backbones: it takes ``num_classes`` and ``options``, and says that it gives a module."""
    from torch import nn  # late: `resolve` is needed where torch is not

    factory = resolve(use)
    if not all(issubclass(made, nn.Module) for made in declared_classes(factory)):
        raise PluginError(
            f"use = {use!r}: does not say that it makes a backbone: name a subclass of torch.nn.Module, or a function "
            "whose return annotation is one"
        )
    _check_signature(use, factory, options, supplied=("num_classes",))
    _check_types(use, factory, options)
    return factory


def check_options(
    use: str, factory: Callable[..., Any], options: Mapping[str, Any], supplied: Iterable[str] = ()
) -> None:
    """PluginError unless the callable takes these options, each of its annotated type, and what the bench supplies."""
    _check_signature(use, factory, options, supplied)
    _check_types(use, factory, options)


def resolve(use: str) -> Callable[..., Any]:
    """The callable that ``module:attribute`` names."""
    module_name, _, attribute = use.partition(":")
    if not (module_name and attribute):
        raise PluginError(f"use = {use!r}: must be written module:attribute, such as eavit.methods:ea_vit")
    module = _module(use, module_name)
    if not hasattr(module, attribute):
        raise PluginError(f"use = {use!r}: {module_name} has no {attribute!r}; {choices(attribute, _public(module))}")
    factory = getattr(module, attribute)
    if not callable(factory):
        raise PluginError(f"use = {use!r}: is {type(factory).__name__}, not a callable")
    return factory  # type: ignore[no-any-return]  # whatever the plug-in holds there


def _module(use: str, name: str) -> Any:
    if name.partition(".")[0] in sys.stdlib_module_names:
        raise PluginError(f"use = {use!r}: a module of Python's standard library makes neither methods nor backbones")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        why = "no such module" if name == missing or name.startswith(missing + ".") else f"it needs {missing}"
        raise PluginImportError(f"use = {use!r}: {name} cannot be imported: {why}") from error
    except Exception as error:  # a plug-in may fail at import in any way it likes
        raise PluginImportError(f"use = {use!r}: {name} fails at import: {type(error).__name__}: {error}") from error


def _public(module: Any) -> list[str]:
    """Names of a module: its ``__all__``, else what it defines."""
    defined = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return list(getattr(module, "__all__", None) or (name for name in defined if not name.startswith("_")))


def declared_classes(factory: Callable[..., Any]) -> tuple[type, ...]:
    """Classes that a call gives, as the callable says without being called: itself, or those of its annotation.

    ``(NoneType,)`` where it says nothing, or nothing that can be resolved.
    """
    if isinstance(factory, type):
        return (factory,)
    function = inspect.unwrap(factory)

    def stub() -> None: ...

    stub.__annotations__ = {"return": getattr(function, "__annotations__", {}).get("return")}
    try:
        annotation = typing.get_type_hints(stub, getattr(function, "__globals__", {}))["return"]
    except (NameError, TypeError, AttributeError):  # a name for type checkers alone
        annotation = type(None)
    classes = typing.get_args(annotation) or (annotation,)
    return tuple(each if isinstance(each, type) else type(None) for each in classes)


def _check_signature(
    use: str, factory: Callable[..., Any], options: Mapping[str, Any], supplied: Iterable[str] = ()
) -> None:
    """PluginError unless the signature takes ``options`` and what the bench itself supplies."""
    parameters = _parameters(factory)
    faults = [] if parameters is None else list(_option_faults(parameters, options, tuple(supplied)))
    if faults:
        raise PluginError(f"use = {use!r}: " + "; ".join(faults))


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """None for callables that show no signature, such as some that are written in C."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None


def _option_faults(
    parameters: Mapping[str, inspect.Parameter], options: Mapping[str, Any], supplied: tuple[str, ...]
) -> Iterator[str]:
    by_name = {name: p for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    free = [name for name in by_name if name not in supplied]
    for key in options:
        if key in supplied:
            yield f"options.{key}: set by the bench itself"
        elif key not in free and not anything:
            yield f"options.{key}: unknown option; {choices(key, free)}"
    for name in free:
        if by_name[name].default is inspect.Parameter.empty and name not in options:
            yield f"options.{name}: missing; it has no default"
    if not anything:
        yield from (f"must take {name}" for name in supplied if name not in by_name)


def _check_types(use: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """PluginError unless each option is of its annotated type, where that is a type of plain values."""
    faults = list(_type_faults(factory, options))
    if faults:
        raise PluginError(f"use = {use!r}: " + "; ".join(faults))


def _type_faults(factory: Callable[..., Any], options: Mapping[str, Any]) -> Iterator[str]:
    try:
        function: Any = vars(factory).get("__init__") if isinstance(factory, type) else inspect.unwrap(factory)
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return
    for name, value in options.items():
        try:
            TypeAdapter(hints.get(name, Any)).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
            yield f"options.{name}{place}: {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
        except PydanticUserError:
            continue


def describe_module(module_name: str) -> list[dict[str, Any]]:
    """Public functions of a module: ``name``, ``first`` line of the docstring, ``takes`` parameters, ``card``.

    The card is that of the method that a function makes without options; empty where it makes none.
    """
    module = _module(module_name, module_name)
    functions = {name: getattr(module, name, None) for name in _public(module)}
    return [
        {
            "name": name,
            "first": (inspect.getdoc(function) or "").partition("\n")[0],
            "takes": list(_parameters(function) or ()),
            "card": _card(f"{module_name}:{name}"),
        }
        for name, function in functions.items()
        if callable(function)
    ]


def _card(use: str) -> Any:
    try:
        return plain_card(build(use, {}))
    except PluginError:
        return {}


def plain_card(method: Any) -> Any:
    """The card of a method as JSON values; empty where it has none. What is not plain becomes text."""
    card = getattr(method, "card", None)
    return json.loads(json.dumps(dict(card), default=str)) if isinstance(card, Mapping) else {}
