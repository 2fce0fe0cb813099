"""The JSON Schema of a recipe with the installed parts, so that editors complete and check TOML."""

from typing import Any

from pydantic import BaseModel, TypeAdapter

from zoo.recipe import schema
from zoo.registry import kinds
from zoo.registry.parts import Part
from zoo.registry.registry import Registry


def recipe_schema(registry: Registry) -> dict[str, Any]:
    """Return a JSON Schema (2020-12) that accepts what `zoo check` accepts, as far as a schema can say it."""
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {"format": {"const": schema.FORMAT, "description": "Version of the recipe format."}}
    for name, model in schema.FIXED.items():
        properties[name] = _lift(TypeAdapter(model).json_schema(ref_template="#/$defs/{model}"), definitions)
    for kind in kinds.KINDS:
        properties[kind.name] = _kind_schema(kind, registry, definitions)
    required = ["format", "run", *(kind.name for kind in kinds.KINDS if kind.required)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "zoo recipe",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        "$defs": definitions,
    }


def _kind_schema(kind: kinds.Kind, registry: Registry, definitions: dict[str, Any]) -> dict[str, Any]:
    tables = [_part_schema(kind, owned.part, definitions) for owned in registry.parts(kind)]
    if not kind.many:
        return {"oneOf": tables}
    items = {"type": "array", "items": {"oneOf": tables}}
    return {"oneOf": [*tables, {**items, "minItems": 1}]} if kind is kinds.HEAD else items


def _part_schema(kind: kinds.Kind, part: Part, definitions: dict[str, Any]) -> dict[str, Any]:
    """One table: `use`, the kind's common keys and the part's own options."""
    shared = _model_schema(schema.COMMON[kind.name], definitions)
    own = _model_schema(part.options, definitions)
    use = {"const": part.name, "description": part.summary}
    needs_use = [] if part.name == kind.default else ["use"]
    return {
        "type": "object",
        "title": f"{kind.name} {part.name}",
        "properties": {"use": use, **shared.get("properties", {}), **own.get("properties", {})},
        "required": [*needs_use, *shared.get("required", []), *own.get("required", [])],
        "additionalProperties": False,
    }


def _model_schema(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    return _lift(model.model_json_schema(ref_template="#/$defs/{model}"), definitions)


def _lift(found: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Move a schema's own definitions to the top, where its references point."""
    definitions |= found.pop("$defs", {})
    return found
