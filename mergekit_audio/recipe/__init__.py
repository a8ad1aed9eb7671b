"""Recipes: the YAML files as strict models, and how they are read."""
