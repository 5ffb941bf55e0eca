"""Batches of CIFAR, which are pickles: read opcode by opcode, so that nothing a file names is imported or called."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.locations import DataError

CONSTANTS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 NONE NEWTRUE NEWFALSE STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINBYTES SHORT_BINBYTES GLOBAL".split()
)
IGNORED = frozenset(("PROTO", "FRAME"))
VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
MARK = object()


@dataclass
class Made:
    """An object that a pickle makes of a callable: both are kept as they are written, nothing is called."""

    arguments: Any
    state: Any = None

    def array(self) -> NDArray[np.uint8]:
        """The numpy array of bytes that this is."""
        _, shape, dtype, by_column, raw = self.state
        if dtype.arguments[0] != "u1" or by_column:
            raise ValueError("not an array of unsigned bytes by rows")
        data = raw.encode("latin-1") if isinstance(raw, str) else raw
        return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def read_batch(file: Path) -> Mapping[str, Any]:
    """The dictionary in a file; arrays of bytes are numpy arrays."""
    try:
        table = _built(file.read_bytes())
        return {key: value.array() if isinstance(value, Made) else value for key, value in table.items()}
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever damaged opcodes lead to
        raise DataError(f"{file}: damaged ({type(error).__name__}: {error}); get it again.") from error


def _built(raw: bytes) -> Any:
    """Run the opcodes of a pickle on a stack of plain values; ValueError for one that is not needed here."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(raw):
        name = opcode.name
        if name in CONSTANTS:
            stack.append(VALUES.get(name, argument))
        elif name in ("MARK", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"):
            stack.append({"MARK": MARK, "EMPTY_LIST": [], "EMPTY_DICT": {}, "EMPTY_TUPLE": ()}[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else int(argument)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif name == "STOP":
            return stack.pop()
        elif name not in IGNORED:
            _combine(name, stack)
    raise ValueError("no end")


def _combine(name: str, stack: list[Any]) -> None:
    if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        stack[-count:] = [tuple(stack[-count:])]
    elif name in ("TUPLE", "LIST"):
        stack.append((tuple if name == "TUPLE" else list)(_to_mark(stack)))
    elif name == "DICT":
        stack.append(dict(_pairs(_to_mark(stack))))
    elif name in ("APPEND", "APPENDS"):
        items = _to_mark(stack) if name == "APPENDS" else [stack.pop()]
        stack[-1].extend(items)
    elif name in ("SETITEM", "SETITEMS"):
        items = _to_mark(stack) if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
        stack[-1].update(_pairs(items))
    elif name == "REDUCE":
        stack[-2:] = [Made(stack[-1])]
    elif name == "BUILD":
        state = stack.pop()
        stack[-1].state = state
    elif name == "STACK_GLOBAL":
        stack[-2:] = [" ".join(stack[-2:])]
    else:
        raise ValueError(f"opcode {name}")


def _to_mark(stack: list[Any]) -> list[Any]:
    start = max(index for index, value in enumerate(stack) if value is MARK)
    items = stack[start + 1 :]
    del stack[start:]
    return items


def _pairs(items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


# --- writing, for samples ---------------------------------------------------------------------------------------------


def batch_bytes(table: Mapping[str, list[int] | list[str] | NDArray[np.uint8]]) -> bytes:
    """A pickle of protocol 2 as those of CIFAR are: lists of numbers or words, and arrays of bytes."""
    entries = b"".join(_word(key) + _written(value) for key, value in table.items())
    return b"\x80\x02}(" + entries + b"u."


def _word(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _written(value: list[int] | list[str] | NDArray[np.uint8]) -> bytes:
    if isinstance(value, list):
        return b"](" + b"".join(_number(v) if isinstance(v, int) else _word(v) for v in value) + b"e"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + _number(0) + b"\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1" + _number(0) + _number(1) + b"\x87R(" + _number(3) + b"U\x01|NNN"
    dtype += _number(-1) + _number(-1) + _number(0) + b"tb"
    shape = b"(" + b"".join(map(_number, value.shape)) + b"t"
    raw = value.tobytes()
    return empty + b"(" + _number(1) + shape + dtype + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
