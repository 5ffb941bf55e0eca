"""A family that is opened for a limit reads about as much as its choice has, and gives what the whole family gives."""

import pytest
import timm
import torch

from eavit import load, weights
from eavit.deploy.artifact import ArtifactError
from eavit.deploy.elastic import ElasticModel, FamilyRecord, MeasuredMember, Validation
from eavit.deploy.files import read_json, write_json
from eavit.deploy.limits import UnreachableError
from eavit.deploy.opened import OpenedFamily, places_of, source_names
from eavit.model.calibration import calibrate
from eavit.model.submodel import Submodel
from eavit.model.vit import NestedViT, extract
from tests.eavit.families import KEYS, family

PICO = ("e48-h3x5.0-m72x5.0", "e64-h4x6-m144x6", "e96-h6x6-m384x6")
IMAGES = torch.randn(3, 1, 24, 24, generator=torch.Generator().manual_seed(0))


def pico_family(calibrated: bool) -> ElasticModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vit = NestedViT.from_timm(weights.pico(10).eval())
        batches = [(torch.randn(16, 1, 24, 24), torch.arange(16) % 10)]
    vit = calibrate(vit, batches) if calibrated else vit
    members = tuple(MeasuredMember(Submodel.parse(key), 50 + i, 96) for i, key in enumerate(PICO))
    return ElasticModel(vit, FamilyRecord(members, {1.0: PICO[2]}, Validation(96, "0" * 64)))


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_size_reads_its_share_and_a_larger_one_what_it_adds(tmp_path, calibrated):
    elastic = pico_family(calibrated)
    file = next(elastic.save(tmp_path / "f").glob("*.safetensors"))
    opened = load(tmp_path / "f", budget=0.2)
    b = elastic.backbone
    assert isinstance(opened, OpenedFamily)
    for key in PICO:
        member = b.check(key)
        assert torch.allclose(opened(IMAGES, member), elastic(IMAGES, member), atol=1e-5)
        own = sum(p.numel() for p in extract(elastic.vit, member).parameters()) * 4
        folded = 40_000 if calibrated else 0  # biases and norms of members, which are stored for each
        assert own <= opened.weights.bytes_read <= own + folded
        if key == PICO[0]:
            assert opened.weights.bytes_read < 0.2 * file.stat().st_size
    before = opened.weights.bytes_read
    assert torch.equal(opened(IMAGES, budget=0.2), opened(IMAGES, PICO[0]))
    assert opened.weights.bytes_read == before


def test_all_that_a_family_answers_is_that_of_the_whole(tmp_path):
    elastic = family()
    opened = load(elastic.save(tmp_path / "f"), params=1500)
    assert opened.weights.bytes_read < 4 * 1600
    assert (opened.members, opened.backbone) == (elastic.members, elastic.backbone)
    assert opened.image_shape == elastic.image_shape == (1, 4, 4)
    for key in KEYS:
        assert opened.sizes(elastic.backbone.check(key)) == elastic.sizes(elastic.backbone.check(key))
    read = opened.weights.bytes_read
    plain = opened.extract(KEYS[1])
    for name, value in elastic.extract(KEYS[1]).state_dict().items():
        assert torch.equal(plain.state_dict()[name], value)
    with torch.no_grad():
        plain.head.bias += 1
    images = torch.randn(2, 1, 4, 4)
    assert torch.allclose(opened(images, KEYS[1]), elastic(images, KEYS[1]), atol=1e-6)
    assert opened.weights.bytes_read > read
    assert torch.allclose(opened(images), elastic(images), atol=1e-6)
    assert torch.equal(opened.vit(images), elastic.vit(images))
    assert torch.equal(load(opened.save(tmp_path / "g"))(images, KEYS[0]), elastic(images, KEYS[0]))


def test_parameters_of_single_sizes_come_along(tmp_path):
    elastic, key = family(), Submodel.parse(KEYS[0])
    elastic = ElasticModel(elastic.vit, elastic.table, {key: {"norm.weight": torch.full((6,), 2.0)}})
    opened, images = load(elastic.save(tmp_path / "f"), params=1500), torch.randn(2, 1, 4, 4)
    assert torch.allclose(opened(images, key), elastic(images, key), atol=1e-6)


def test_a_size_that_is_no_member_of_a_calibrated_family_reads_everything(tmp_path):
    elastic = pico_family(True)
    opened = load(elastic.save(tmp_path / "f"), budget=0.2)
    assert torch.allclose(opened(IMAGES, "e80-h5x6-m96x6"), elastic(IMAGES, "e80-h5x6-m96x6"), atol=1e-5)


def test_a_backbone_with_computed_buffers_is_read_whole(tmp_path):
    model = timm.create_model("eva02_tiny_patch14_224", num_classes=3, img_size=28, depth=1).eval()
    vit = NestedViT.from_timm(model)
    member = MeasuredMember(vit.backbone.full, 1, 2)
    folder = ElasticModel(vit, FamilyRecord((member,), {}, Validation(2, "0" * 64))).save(tmp_path / "f")
    images, opened = torch.randn(2, 3, 28, 28), load(folder, budget=1.0)
    assert not isinstance(opened, OpenedFamily)
    assert torch.equal(opened(images, budget=1.0), vit(images))
    with pytest.raises(UnreachableError, match="the smallest takes"):
        load(folder, params=10)


def test_moving_a_family_reads_nothing(tmp_path):
    opened = load(family().save(tmp_path / "f"), params=1500)
    read, images = opened.weights.bytes_read, torch.randn(2, 1, 4, 4)
    assert torch.equal(opened.to("cpu")(images, KEYS[0]), family()(images, KEYS[0]))
    assert opened.weights.bytes_read == read
    assert "_whole" not in vars(opened)


def test_what_does_not_fit_or_is_damaged_is_refused(tmp_path):
    folder = family().save(tmp_path / "f")
    with pytest.raises(UnreachableError, match="the smallest takes"):
        load(folder, budget=0.001)
    with pytest.raises(ValueError, match="limit latency is unknown"):
        load(folder, latency=3)
    file = next(folder.glob("*.safetensors"))
    whole = file.read_bytes()
    file.write_bytes(b"x" * len(whole))
    with pytest.raises(ArtifactError, match="damaged .*copy the folder again"):
        load(folder, budget=1.0)
    file.write_bytes(whole[:-4])
    with pytest.raises(ArtifactError, match="size does not match"):
        load(folder, budget=1.0)
    manifest = read_json(folder / "manifest.json", "")
    write_json(folder / "manifest.json", manifest | {"format_version": 2})
    with pytest.raises(ArtifactError, match="newer than 1"):
        load(folder, budget=1.0)


def test_places_are_those_of_the_extract():
    vit = family().vit
    member = vit.backbone.check(KEYS[1])
    plain, source, state = extract(vit, member), source_names(member), vit.state_dict()
    places = places_of(vit, member)
    assert places.keys() == dict(plain.named_parameters()).keys()
    for name, axes in places.items():
        value = state[source(name).removeprefix("shared.")]
        for axis, where in enumerate(axes):
            value = value.index_select(axis, torch.tensor(where))
        assert torch.equal(value, plain.state_dict()[name])
