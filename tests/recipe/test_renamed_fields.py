"""Old names of fields are read for ever, with one warning that gives the new name, and the docs list them all."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from zoo import families
from zoo.core.errors import RenamedFieldWarning
from zoo.data.spec import Holdout
from zoo.families.matryoshka_2d.spec import Spec as MatryoshkaSpec
from zoo.families.sesa.spec import Spec as SesaSpec
from zoo.recipe import recipe
from zoo.schema import Section

UPGRADING = (Path(__file__).parents[2] / "docs" / "upgrading.md").read_text(encoding="utf-8")


def list_sections(model: type[BaseModel], found: frozenset[type[Section]] = frozenset()) -> frozenset[type[Section]]:
    """A section and every section inside it, besides those in `found`: a data section may hold another one."""
    found |= {model}
    for field in model.model_fields.values():
        queue = [field.annotation]
        while queue:
            annotation = queue.pop()
            queue += getattr(annotation, "__args__", ())
            if isinstance(annotation, type) and issubclass(annotation, Section) and annotation not in found:
                found |= list_sections(annotation, found)
    return found


SECTIONS = {section for name in families.names() for section in list_sections(families.load_spec(name))}
RENAMED = {
    f"{section.__module__}.{section.__name__}.{old}": (section, old, new)
    for section in SECTIONS
    for old, new in section.renamed_fields.items()
}


@pytest.mark.parametrize("name", sorted(RENAMED))
def test_a_renamed_field_exists_and_stands_in_the_docs(name):
    section, old, new = RENAMED[name]
    assert new.name in section.model_fields
    assert old not in section.model_fields
    assert f"`{old}" in UPGRADING
    assert f"`{new.name}" in UPGRADING


def test_an_old_name_is_read_with_a_warning_and_not_beside_the_new_one():
    with pytest.warns(RenamedFieldWarning, match="`take` is now called `side`"):
        assert Holdout(size=5, take="held-out") == Holdout(size=5, side="test")
    with pytest.raises(ValidationError, match="give one of them, not both"):
        Holdout(size=5, take="kept", side="train")


def test_a_scale_becomes_its_inverse_exactly():
    with pytest.warns(RenamedFieldWarning, match="`temperature`"):
        old = MatryoshkaSpec.model_validate({"family": "matryoshka-2d", "backbone": "b", "scale": 20.0})
    assert 1 / old.temperature == 20.0
    assert old == MatryoshkaSpec(family="matryoshka-2d", backbone="b")
    with pytest.warns(RenamedFieldWarning), pytest.raises(ValidationError, match="temperature"):
        SesaSpec.model_validate({"family": "sesa", "scale": 0, "concepts": {"source": "file", "path": "c.csv"}})


@pytest.mark.parametrize(
    ("fields", "temperature", "kl_temperature"),
    [
        ({"scale": 10, "temperature": 2.0}, 0.1, 2.0),
        ({"objective": "2dmse", "temperature": 2.0}, 0.05, 2.0),
        ({"objective": "2dmse", "temperature": 0.1}, 0.1, 1.0),
        ({"temperature": 2.0}, 2.0, 1.0),
        ({"objective": "2dmse", "temperature": 2.0, "kl_temperature": 3.0}, 2.0, 3.0),
    ],
)
def test_the_temperature_of_the_kl_term_is_told_from_that_of_the_loss(fields, temperature, kl_temperature):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RenamedFieldWarning)
        spec = MatryoshkaSpec.model_validate({"family": "matryoshka-2d", "backbone": "b", **fields})
    assert (spec.temperature, spec.kl_temperature) == (temperature, kl_temperature)


def test_a_copy_with_a_field_that_does_not_exist_is_an_error():
    with pytest.raises(TypeError, match="take"):
        Holdout(size=5, side="train").model_copy(update={"take": "kept"})


def test_a_recipe_gives_one_warning_for_each_old_name_with_its_file(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y\n")
    text = """
name: old
encoder: {family: lbl2vec, labels: {x: [a], y: [b]}, none_below: 0.1}
data: {source: file, path: rows.csv, holdout: {size: 1, take: kept}}
"""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recipe.loads(text, folder=tmp_path, file="old.yaml")
    messages = sorted(str(entry.message) for entry in caught if issubclass(entry.category, RenamedFieldWarning))
    assert messages == [
        "old.yaml: the recipe field `none_below` is now called `reject_below`",
        "old.yaml: the recipe field `take` is now called `side`",
    ]
