"""Arguments that several verbs share: limits, profiles, backbones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from eavit import weights
from eavit.deploy.latency import Setting

PICO = "pico"  # the backbone that the package brings: 24 pixels, grey
DEFAULT_BACKBONE = "vit_small_patch14_dinov2.lvd142m"

Budget = Annotated[float | None, typer.Option(help="limit: a fraction of the full model's MACs")]
Macs = Annotated[float | None, typer.Option(help="limit: multiply-accumulates of one picture")]
Params = Annotated[float | None, typer.Option(help="limit: parameters")]
Mib = Annotated[float | None, typer.Option(help="limit: MiB of float32 weights")]
ActivationMib = Annotated[float | None, typer.Option(help="limit: MiB of activations at once, of one picture")]
Latency = Annotated[float | None, typer.Option(help="limit: milliseconds of one call on the profiled machine")]
ProfileFile = Annotated[Path | None, typer.Option("--profile", help="profile of the device; default: this machine's")]


def limits_of(**values: float | None) -> dict[str, float]:
    """The limits that were given."""
    return {name: value for name, value in values.items() if value is not None}


def limits_from(texts: Sequence[str]) -> list[dict[str, float]]:
    """Limits of texts such as latency_ms=4,mib=20.

    >>> limits_from(["latency_ms=4,mib=20", "params=1e6"])
    [{'latency_ms': 4.0, 'mib': 20.0}, {'params': 1000000.0}]
    """
    try:
        return [
            {name.strip(): float(value) for name, value in (part.split("=") for part in text.split(","))}
            for text in texts
        ]
    except ValueError:
        raise ValueError(f"--within {', '.join(texts)}: must be kinds and limits, as latency_ms=4,mib=20") from None


def profile_file(folder: Path, setting: Setting) -> Path:
    """File of a profile in a family's folder."""
    return folder / f"profile-{setting}.json"


def pretrained_backbone(name: str, classes: int, size: int | None) -> Any:
    """A pretrained timm ViT by tag, or the package's own pico ViT."""
    if name == PICO:
        if size not in (None, weights.PICO["img_size"]):
            raise ValueError(f"--size {size}: backbone pico takes {weights.PICO['img_size']} pixels only")
        return weights.pico_letters(classes)
    options: dict[str, Any] = {} if size is None else {"img_size": size}
    return weights.timm_vit(classes, name, **options)
