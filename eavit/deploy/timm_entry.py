"""Entry point of timm's registry for submodels that no entry of timm can express: skipped branches, mixed widths."""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, register_model
from timm.models.vision_transformer import VisionTransformer

from eavit.deploy.architecture import build_submodel

ENTRY = "eavit_submodel"
PLAIN_ENTRY = "vit_tiny_patch16_224"  # its own arguments are all replaced


def _model(submodel: str, backbone: dict[str, Any], num_classes: int | None = None, **others: Any) -> VisionTransformer:
    vit = build_submodel(backbone, submodel)
    if num_classes is not None and num_classes != vit.num_classes:
        vit.reset_classifier(num_classes)
    return vit


@register_model  # type: ignore[untyped-decorator]  # timm has no types
def eavit_submodel(pretrained: bool = False, **options: Any) -> VisionTransformer:
    """A submodel by its key and its backbone's arguments, as ``timm.create_model("local-dir:...")`` asks for it."""
    model: VisionTransformer = build_model_with_cfg(_model, ENTRY, pretrained, **options)
    return model


def architecture_of(arguments: dict[str, Any], submodel: str, plain: dict[str, Any] | None) -> dict[str, Any]:
    """Architecture and arguments of a ``config.json``: of plain timm where ``plain`` arguments express the submodel."""
    if plain is None:
        return {"architecture": ENTRY, "model_args": {"submodel": submodel, "backbone": arguments}}
    return {"architecture": PLAIN_ENTRY, "model_args": plain}
