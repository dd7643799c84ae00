"""A recipe: one YAML file, checked in one pass into a frozen, typed `Recipe`."""
