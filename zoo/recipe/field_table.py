"""The fields of a section of a recipe, with types, defaults and descriptions in words. They come from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from zoo.core import located_yaml

Schema = Mapping[str, Any]
_TYPES = {"string": "text", "boolean": "true or false", "object": "mapping", "null": "null"}
_BOUNDS = {"exclusiveMinimum": "> {}", "minimum": "≥ {}", "exclusiveMaximum": "< {}", "maximum": "≤ {}"}


class FieldText(NamedTuple):
    """A field in words. `path` is dotted below the section; `default` is `required` if the recipe must give a value."""

    path: str
    type: str
    default: str
    description: str


def list_fields(section: type[BaseModel]) -> list[FieldText]:
    """Return the fields of a section in the order of its class. The fields of a section inside it follow the field."""
    schema = section.model_json_schema()
    return list(_list_fields(schema, schema.get("$defs", {}), ""))


def _list_fields(section: Schema, definitions: Schema, prefix: str) -> Iterator[FieldText]:
    for name, field in section.get("properties", {}).items():
        path, inner = f"{prefix}{name}", _find_inner_section(field, definitions)
        default = "required" if name in section.get("required", ()) else _describe_default(field, inner is not None)
        text = " ".join(str(field.get("description") or "").split())
        yield FieldText(path, _describe_type(field, definitions), default, text)
        if inner is not None:
            yield from _list_fields(inner, definitions, f"{path}.")


def _find_inner_section(field: Schema, definitions: Schema) -> Schema | None:
    """Return the one section that a field can hold. A choice of several sections, for example of data, is not written out."""
    choices = [_resolve(choice, definitions) for choice in field.get("anyOf", [field])]
    sections = [choice for choice in choices if "properties" in choice]
    return sections[0] if len(sections) == 1 else None


def _resolve(schema: Schema, definitions: Schema) -> Schema:
    reference = schema.get("$ref")
    resolved: Schema = definitions[reference.rpartition("/")[2]] if reference else schema
    return resolved


def _describe_default(field: Schema, is_section: bool) -> str:
    value = field.get("default")
    if "const" in field or (is_section and value is not None):
        return ""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return located_yaml.dump({"x": value}).removeprefix("x:").strip()


def _describe_type(schema: Schema, definitions: Schema) -> str:
    schema = _resolve(schema, definitions)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        names = [_describe_type(choice, definitions) for choice in choices if choice.get("type") != "null"]
        return " or ".join(dict.fromkeys(names))
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "properties" in schema:
        return "section"
    if schema.get("type") == "array":
        return f"list of {_describe_type(schema['items'], definitions)}" if schema.get("items") else "list"
    name = schema.get("type", "any value")
    bounds = [text.format(f"{schema[key]:,}") for key, text in _BOUNDS.items() if key in schema]
    return f"{_TYPES.get(name, name)} {' and '.join(bounds)}".strip()
