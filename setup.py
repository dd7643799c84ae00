"""Finds the packages. Everything else about the project stands in pyproject.toml.

`recipes/`, `cards/` and `docs/` stay at the top level, where people look for them, and are installed as `zoo.recipes`,
`zoo.cards` and `zoo.docs`. pyproject.toml can either find packages or map such folders, not both; that is why this file exists.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["zoo", "zoo.*"]), "zoo.recipes", "zoo.cards", "zoo.docs"],
    package_dir={"zoo": "zoo", "zoo.recipes": "recipes", "zoo.cards": "cards", "zoo.docs": "docs"},
)
