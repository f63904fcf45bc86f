"""The JSON schema of the configuration, for editors that complete and check while one types."""

from __future__ import annotations

from typing import Any

from penstock.config.model import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> dict[str, Any]:
    """The schema of a configuration file in any of its forms."""
    schema: dict[str, Any] = _cleaned(Config.model_json_schema(by_alias=True))
    return {"$schema": DIALECT, **schema, "title": "Penstock configuration"}


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
