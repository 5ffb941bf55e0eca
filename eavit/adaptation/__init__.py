"""Adaptation of a ViT on one's own data loaders, without the bench."""
