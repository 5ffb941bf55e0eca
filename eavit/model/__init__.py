"""Nested model: submodels, gates, cost, importance, and the ViT that runs at any widths."""
