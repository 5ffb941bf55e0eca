"""Elastic Vision Transformers: one pretrained ViT, adapted once, a submodel for every budget."""

from eavit.cost import macs, params
from eavit.gates import Gates
from eavit.importance import sort_by_importance
from eavit.space import Space
from eavit.submodel import Backbone, Submodel
from eavit.vit import NestedViT, extract

__all__ = ["Backbone", "Gates", "NestedViT", "Space", "Submodel", "extract", "macs", "params", "sort_by_importance"]
