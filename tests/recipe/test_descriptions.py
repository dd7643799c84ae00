"""Every field of a recipe says what it means. The reference and editors show the descriptions."""

from __future__ import annotations

import pytest

from zoo import families
from zoo.recipe import recipe

SECTIONS = {"Recipe": recipe.schema(), **recipe.schema()["$defs"]} | {
    f"View of {name}": families.load_spec(name).View.model_json_schema() for name in families.names()
}


@pytest.mark.parametrize("name", SECTIONS)
def test_every_field_has_a_description(name):
    fields = SECTIONS[name].get("properties", {})
    silent = [field for field, schema in fields.items() if "const" not in schema and not schema.get("description")]
    assert not silent, f"{name}: describe {', '.join(silent)}"
