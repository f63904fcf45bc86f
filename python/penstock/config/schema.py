"""The JSON schema of the configuration, for editors that complete and check while one types."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from penstock.config import model
from penstock.config.model import Config

if TYPE_CHECKING:
    from pydantic import BaseModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> dict[str, Any]:
    """The schema of a configuration file in any of its forms."""
    schema: dict[str, Any] = Config.model_json_schema(by_alias=True)
    _describe(schema, Config)
    for name, definition in schema["$defs"].items():
        _describe(definition, getattr(model, name))
    schema = _cleaned(schema)
    return {"$schema": DIALECT, **schema, "title": "Penstock configuration"}


def _describe(definition: dict[str, Any], described: type[BaseModel]) -> None:
    """Give each key the docstring that stands below its field in the source."""
    (tree,) = ast.parse(inspect.getsource(described)).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - the source of a class
    for field, below in pairwise(tree.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                key = described.model_fields[name].alias or name
                definition["properties"][key]["description"] = inspect.cleandoc(text)


def _cleaned(part: Any) -> Any:
    """Without `null`: a key that has no value is left out, and TOML could not write one."""
    if isinstance(part, list):
        return [_cleaned(member) for member in part]
    if not isinstance(part, dict):
        return part
    cleaned: dict[str, Any] = {}
    for key, value in part.items():
        if key == "default":
            if value is not None:
                cleaned[key] = _without_nulls(value)
        elif key in ("properties", "$defs"):
            cleaned[key] = {name: _cleaned(member) for name, member in value.items()}
        elif key == "description" and isinstance(value, str):
            cleaned[key] = " ".join(value.split())
        else:
            cleaned[key] = _cleaned(value)
    choices = [choice for choice in cleaned.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        del cleaned["anyOf"]
        return {**choices[0], **cleaned}
    if choices:
        cleaned["anyOf"] = choices
    return cleaned


def _without_nulls(default: Any) -> Any:
    if isinstance(default, dict):
        return {key: _without_nulls(value) for key, value in default.items() if value is not None}
    return default
