"""No pickle is loaded, no string is run, a suite is data: read from the source itself, and tried."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from eavit import weights
from eavit.model.vit import NestedViT
from harness import suite
from harness.suite import SuiteError
from tests.harness import small

ROOT = Path(__file__).parents[2]
FILES = sorted(file for package in ("eavit", "harness") for file in (ROOT / package).rglob("*.py"))
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle", "yaml"}
NEVER = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput"),
    *("subprocess.getstatusoutput", "torch.jit.load", "torch.package.PackageImporter", "torch.serialization.load"),
    *("pandas.read_pickle", "torch.hub.load", "runpy.run_path", "runpy.run_module", "asyncio.create_subprocess_shell"),
    *("shutil.unpack_archive", "code.interact"),
}  # fmt: skip
METHODS = {"extractall", "extract"}  # of tarfile and zipfile: harness/data/archive.py writes each member itself
OURS = {"eavit", "pandas", "elastic", "self"}  # whose extract is of a submodel, or of text
MUST = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
SHORT = {"np": "numpy", "pd": "pandas"}


def dotted(node: ast.expr, known: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, known)}.{node.attr}"
    return known.get(node.id, SHORT.get(node.id, node.id)) if isinstance(node, ast.Name) else "?"


def sins(tree: ast.Module) -> Iterator[str]:
    """What a file must not do, as ``line: what``."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            known |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{node.lineno}: import {name}" for name in names if name.split(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            name, last = dotted(node.func, known), getattr(node.func, "attr", "")
            if name in NEVER or (last in METHODS and name.split(".")[0] not in OURS):
                yield f"{node.lineno}: {name}"
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            if name in MUST and given.get(MUST[name][0]) is not MUST[name][1]:
                yield f"{node.lineno}: {name} without {MUST[name][0]}={MUST[name][1]}"
            if given.get("shell") or given.get("allow_pickle"):
                yield f"{node.lineno}: {name} with a shell or pickles"


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_no_source_loads_pickles_or_runs_strings(file: Path) -> None:
    assert not list(sins(ast.parse(file.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.memory as m",
        "import yaml",
        "eval('1')",
        "exec('1')",
        "import os\nos.system('x')",
        "from os import system as s\ns('x')",
        "import subprocess as sp\nsp.run('x', shell=True)",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "import torch as t\nt.load('x', weights_only=None)",
        "import numpy as np\nnp.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import pandas as pd\npd.read_pickle('x')",
        "import tarfile\ntarfile.open('x').extractall()",
        "with archive as a:\n    a.extract('x')",
    ],
)
def test_the_watch_sees_what_it_should(text: str) -> None:
    assert list(sins(ast.parse(text)))


def test_the_watch_lets_pass_what_is_right() -> None:
    right = "torch.load(f, weights_only=True)\nnp.load(f, allow_pickle=False)\nre.compile('x')"
    assert not list(sins(ast.parse(f"import torch, numpy as np, re\n{right}")))


# --- weights --------------------------------------------------------------------------------------------------------

TINY = {"tag": "vit_tiny_patch16_224", "img_size": 32}


def test_weights_with_other_keys_are_refused_by_name(tmp_path: Path) -> None:
    import timm

    state = timm.create_model(TINY["tag"], img_size=32, num_classes=0).state_dict()
    lacking = {key: value for key, value in state.items() if key != "blocks.3.mlp.fc1.bias"}
    save_file(lacking, tmp_path / "lacking.safetensors")
    save_file({**state, "blocks.3.mlp.fc9.bias": torch.zeros(1)}, tmp_path / "more.safetensors")
    save_file({**state, "blocks.3.mlp.fc1.bias": torch.zeros(7)}, tmp_path / "shape.safetensors")
    for name, said in (("lacking", r"fc1\.bias"), ("more", r"fc9\.bias"), ("shape", r"fc1\.bias.*7")):
        with pytest.raises(RuntimeError, match=rf"(?s)blocks\.3\.mlp\.{said}"):
            weights.timm_vit(3, path=str(tmp_path / f"{name}.safetensors"), **TINY)


@pytest.mark.parametrize("change", ["lacking", "more", "shape"])
def test_a_nested_state_with_other_keys_is_refused_by_name(change: str) -> None:
    vit = NestedViT.from_timm(weights.pico(5))
    state = dict(vit.state_dict())
    if change == "more":
        state["blocks.2.norm9.bias"] = torch.zeros(1)
    elif change == "shape":
        state["blocks.2.norm2.bias"] = torch.zeros(1)
    else:
        del state["blocks.2.norm2.bias"]
    with pytest.raises(RuntimeError, match=r"(?s)blocks\.2\.norm[29]\.bias"):
        vit.load_state_dict(state)


def test_a_pickle_in_place_of_weights_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "evil",)

    for name in ("w.pt", "w.safetensors"):
        torch.save({"x": Evil()}, tmp_path / name)
        with pytest.raises(Exception, match=r"(?i)header|safetensor|deserializ"):
            weights.timm_vit(3, path=str(tmp_path / name), **TINY)
    assert not (tmp_path / "evil").exists()


# --- suites are data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        "os.system('touch evil')",
        "os:system('touch evil')",
        "__import__('os').system",
        "os;evil:x",
        "../evil:method",
        "/tmp/evil.py:method",
        "evil.py",
        "a:b:c",
        "a:b.c",
        "a b:c",
        "a:b\n",
        ":b",
        "a:",
        "",
        3,
        ["a:b"],
        {"code": "1"},
    ],
)
@pytest.mark.parametrize("where", ["backbone", "methods"])
def test_a_suite_names_code_by_import_string_only(use: object, where: str) -> None:
    changes = {"backbone": {"use": use}} if where == "backbone" else {"methods": [{"use": use, "name": "m"}]}
    with pytest.raises(SuiteError, match=r"use: .*(must be written module:attribute|valid string)"):
        small.suite(**changes)


@pytest.mark.parametrize("table", [{}, {"backbone": {"use": "a:b", "code": "x"}}])
def test_there_is_no_key_that_takes_code(table: dict[str, object]) -> None:
    for key in ("code", "exec", "shell", "command", "setup", "plugins", "import"):
        with pytest.raises(SuiteError, match="unknown key"):
            small.suite(**{key: "print(1)", **table})


def test_reading_a_suite_imports_nothing_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "evil_plugin.py").write_text(f"open({str(tmp_path / 'evil')!r}, 'w')\n")
    (tmp_path / "x.toml").write_text(
        'name = "x"\nbudgets = [1.0]\nseeds = [0]\nbackbone = { use = "evil_plugin:b" }\n'
        'input = { size = 8, channels = 1 }\ndatasets = [{ name = "digits" }]\nmethods = [{ use = "evil_plugin:m" }]\n'
    )
    script = (
        "from harness import code_digest, plan, suite\n"
        f"given = suite.load({str(tmp_path / 'x.toml')!r})\n"
        "found = code_digest.digests(['evil_plugin:b', 'evil_plugin:m'])\n"
        "print(len(plan.cells(given, plan.Prints(found, {'digits': None}, {}))))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert not (tmp_path / "evil").exists()


def test_shipped_suites_are_toml_and_nothing_else() -> None:
    assert {file.suffix for file in (ROOT / "suites").iterdir()} == {".toml"}
    for file in (file for file in (ROOT / "suites").iterdir() if not file.name.endswith(".claims.toml")):
        assert isinstance(suite.load(file), suite.Suite)
