"""A small family of one tiny ViT, untrained, and loaders of images that it can learn."""

from __future__ import annotations

from torch.utils.data import DataLoader, TensorDataset

from eavit.deploy.elastic import ElasticModel, FamilyRecord, MeasuredMember, Validation
from eavit.model.submodel import Submodel
from tests.eavit.small import Blobs, tiny

KEYS = ("e6-h2x3-m12x3", "e9-h3.0.3-m18.24.0", "e12-h4x3-m24x3")  # uniform, with skipped branches, full
DATA = {"input_size": [1, 4, 4], "mean": [0.5], "std": [0.5], "interpolation": "bicubic", "crop_pct": 1.0}


def family(**changes) -> ElasticModel:
    members = tuple(
        MeasuredMember(Submodel.parse(key), correct, 96) for key, correct in zip(KEYS, (60, 80, 90), strict=True)
    )
    source = {"architecture": "vit_tiny_patch16_224", "license": "mit", "url": "", "input_size": (1, 4, 4)}
    table = FamilyRecord(
        members=members,
        budgets={0.1: None, 0.4: KEYS[0], 1.0: KEYS[2]},
        validation=Validation(96, "0" * 64),
        data=DATA,
        classes=("bright", "dark", "checked"),
        method={"method": "none"},
        source=source,
    )
    return ElasticModel(tiny(**changes), table)


def loader(count: int = 96, batch: int = 16, *, shuffle: bool = False, seed: int = 0, **options) -> DataLoader:
    images, labels = Blobs(count, seed)._all()
    return DataLoader(TensorDataset(images, labels), batch, shuffle=shuffle, **options)
