"""A recipe: one YAML file, checked in one pass into a frozen, typed `Recipe`."""

from zoo.recipe.recipe import Recipe, find, load, loads, schema, shipped

__all__ = ["Recipe", "find", "load", "loads", "schema", "shipped"]
