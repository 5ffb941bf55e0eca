"""Elastic Vision Transformers: one pretrained ViT, adapted once, a submodel for every budget."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eavit.deploy import timm_entry  # noqa: F401  # registers eavit_submodel in timm
from eavit.model.cost import macs, params
from eavit.model.gates import Gates
from eavit.model.importance import sort_by_importance
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT, extract
from eavit.space.space import Space

if TYPE_CHECKING:
    from eavit.adaptation.adapt import adapt, family_of
    from eavit.adaptation.refine import refine
    from eavit.adaptation.sampled import Sampled
    from eavit.deploy.elastic import ElasticModel
    from eavit.deploy.export import export
    from eavit.deploy.hub import push_to_hub
    from eavit.deploy.latency import Profile
    from eavit.deploy.opened import open_family as load
    from eavit.deploy.profiling import profile_latency
    from eavit.deploy.verify import verify_export as verify

# Imported when they are first used, so that `import eavit` stays fast.
LATER = {
    "adapt": "eavit.adaptation.adapt:adapt",
    "family_of": "eavit.adaptation.adapt:family_of",
    "refine": "eavit.adaptation.refine:refine",
    "Sampled": "eavit.adaptation.sampled:Sampled",
    "ElasticModel": "eavit.deploy.elastic:ElasticModel",
    "export": "eavit.deploy.export:export",
    "push_to_hub": "eavit.deploy.hub:push_to_hub",
    "verify": "eavit.deploy.verify:verify_export",
    "Profile": "eavit.deploy.latency:Profile",
    "profile_latency": "eavit.deploy.profiling:profile_latency",
    "load": "eavit.deploy.opened:open_family",
}

__all__ = [
    "Backbone",
    "ElasticModel",
    "Gates",
    "NestedViT",
    "Profile",
    "Sampled",
    "Space",
    "Submodel",
    "adapt",
    "export",
    "extract",
    "family_of",
    "load",
    "macs",
    "params",
    "profile_latency",
    "push_to_hub",
    "refine",
    "sort_by_importance",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in LATER:
        module, attribute = LATER[name].split(":")
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'eavit' has no attribute {name!r}")
