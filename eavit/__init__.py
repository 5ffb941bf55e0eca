"""Elastic Vision Transformers: one pretrained ViT, adapted once, a submodel for every budget."""

from eavit.model.cost import macs, params
from eavit.model.gates import Gates
from eavit.model.importance import sort_by_importance
from eavit.model.submodel import Backbone, Submodel
from eavit.model.vit import NestedViT, extract
from eavit.space.space import Space

__all__ = ["Backbone", "Gates", "NestedViT", "Space", "Submodel", "extract", "macs", "params", "sort_by_importance"]
