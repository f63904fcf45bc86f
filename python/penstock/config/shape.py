"""What pydantic says of a document's shape, in plain sentences, and a document in which what it refused is left out."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from penstock.config.document import listed
from penstock.config.model import Config, Filter
from penstock.config.model.base import Model
from penstock.config.texts import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from penstock.config.document import Document, KeyPath
    from penstock.errors import Fault

# Keys that the design has and this version has not: to call them unknown would send people looking for a misspelling.
_LATER_KEYS = frozenset(
    (
        "alpn",
        "cache",
        "providers",
        "rate_limit",
        "retry_budget",
        "secrets",
        "sni",
    )
)
_KINDS = {
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "float_type": "a number",
    "tuple_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_TABLE_OR_LIST = ("split", "shares", "map_location")
_SENTENCES = {
    "missing": "is missing; it must be given",
    "greater_than_equal": "must be at least {ge}, not {shown}",
    "less_than_equal": "must be at most {le}, not {shown}",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "value_error": "{error}",
}


def as_document(value: Any) -> Any:
    """What a program made as the tables that a file would have: a model was right when it was made, and a dict in it
    may have been changed since."""
    if isinstance(value, Model):
        return {field.alias or name: as_document(part) for name, field, part in _written(value)}
    if type(value) is dict:
        return {name: as_document(part) for name, part in value.items()}
    return type(value)(map(as_document, value)) if type(value) in (list, tuple) else value


def shape_faults(document: Document, error: ValidationError) -> list[Fault]:
    """Each thing that pydantic refused, as a fault with its line."""
    faults = []
    for detail in error.errors(include_url=False):
        key = _key(detail)
        faults.append(document.fault(key, _sentence(detail, key, error.title)))
    return faults


def neutralise(value: Mapping[str, Any], error: ValidationError) -> Config | None:
    """The configuration with everything refused replaced by something harmless, so that the rest can be checked too.
    `None` where that does not succeed."""
    document = _editable(value)
    for deep in (True, False, False):
        for key in sorted({_key(detail) for detail in error.errors(include_url=False)}, key=len, reverse=True):
            _replace(document, key, deep=deep)
        try:
            return Config.model_validate(document)
        except ValidationError as again:
            error = again
    return None


# What takes the place of something that cannot be used; found by the part of the document it stands in.
_NEUTRAL: dict[tuple[str, ...], Any] = {
    ("listeners", "*", "tls"): None,
    ("listeners", "*"): {"bind": "127.0.0.1:0"},
    ("upstreams", "*"): {"endpoints": ["192.0.2.1:1"]},
    ("upstreams", "*", "endpoints", "*"): "192.0.2.1:1",
    ("routes", "*"): {"respond": {}},
    ("routes", "*", "filters", "*"): {"remove_query": ["x"]},
    ("tests", "*"): {"url": "http://x.example/", "status": 404},
}


def _replace(document: Any, key: KeyPath, *, deep: bool) -> None:
    """Take a refused key out; if that was done before (`deep` is false), replace the whole of which it is part."""
    if deep:
        above = _reach(document, key[:-1])
        if isinstance(above, dict):
            above.pop(key[-1], None)
            return
    for length in range(len(key), 0, -1):
        pattern = (str(key[0]), *("*" if i % 2 else str(step) for i, step in enumerate(key[1:length], 1)))
        if pattern in _NEUTRAL:
            table: Any = _reach(document, key[: length - 1])
            is_ours = isinstance(table, dict | list)
            if is_ours and _reach(table, key[length - 1 : length]) is not None:
                table[key[length - 1]] = copy.deepcopy(_NEUTRAL[pattern])
                return
    document.pop(key[0], None)


def _editable(value: Any) -> Any:
    """A copy in which parts can be replaced. What a program made may hold anything: objects stay what they are."""
    if isinstance(value, Mapping):
        return {name: _editable(part) for name, part in value.items()}
    return [_editable(part) for part in value] if isinstance(value, list | tuple) else value


def _reach(document: Any, key: KeyPath) -> Any:
    for step in key:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def _written(model: Model) -> Iterator[tuple[str, FieldInfo, Any]]:
    """The fields of a model that were given, or have been changed."""
    for name, field in type(model).model_fields.items():
        part = getattr(model, name)
        if name in model.model_fields_set or part != field.get_default(call_default_factory=True):
            yield name, field, part


def _key(detail: ErrorDetails) -> KeyPath:
    """The key that an error speaks of. A name that is no text is reported at `[key]` below it."""
    # A value of one of several shapes has the shape's tag in its location, which is no key of the document.
    location = tuple(step for step in detail["loc"] if not str(step).startswith("<"))
    return location[:-1] if location and location[-1] == "[key]" else location


def _sentence(detail: ErrorDetails, key: KeyPath, title: str) -> str:
    kind, value = detail["type"], detail["input"]
    name = key[-1] if key else ""
    if detail["loc"][-1:] == ("[key]",):
        return f"a name must be a text in quotes, not {_shown(value)}"
    if kind == "extra_forbidden":
        return _unknown_key(str(name), key[:-1], title)
    if kind == "literal_error":
        return _not_a_choice(str(name), value, detail["ctx"]["expected"])
    if kind in _KINDS:
        wanted = "a table or a list" if kind == "tuple_type" and name in _TABLE_OR_LIST else _KINDS[kind]
        # Whoever writes a secret in the place of its name must not find it in a log.
        found = "" if key[-2:-1] == ("secret",) else f", not {_shown(value)}"
        return f"must be {wanted}{found}{_table_hint(name, value)}"
    if kind in _SENTENCES:
        return _SENTENCES[kind].format(**detail.get("ctx", {}), shown=_shown(value))
    return detail["msg"][:1].lower() + detail["msg"][1:]


def _not_a_choice(name: str, value: object, expected: str) -> str:
    choices = expected.replace("'", '"')
    hint = nearest(value, re.findall(r"'([^']*)'", expected)) if isinstance(value, str) else ""
    if name == "balance" and value in ("hash", "ip_hash", "maglev", "rendezvous", "ring", "ring_hash"):
        hint = '; to hash, write { hash = "client.ip" }'
    return f"must be {choices}, not {_shown(value)}{hint}"


def _table_hint(name: object, value: object) -> str:
    if name in ("routes", "tests") and isinstance(value, Mapping):
        return f"; in TOML, begin each with [[{name}]]"
    if name == "filters" and isinstance(value, Mapping):
        return '; write [{ strip_prefix = "/api" }]'
    return ""


def _unknown_key(name: str, above: KeyPath, title: str) -> str:
    # A program may have built a part alone: keys are then keys of that part.
    root = next((model for model in _models(Model) if model.__name__ == title), None)
    model = root and _model_at(root, above)
    known = [field.alias or key for key, field in model.model_fields.items()] if model else []
    if name in _LATER_KEYS:
        return "is not yet in this version"
    if model is Config and name in ("listener", "upstream", "route", "test"):
        return f'unknown key; did you mean "{name}s"?'
    what = "unknown filter" if model is Filter else "unknown key"
    return what + nearest(name, known) + (f" (allowed: {listed(known)})" if known else "")


def _models(above: type[Model]) -> Iterator[type[Model]]:
    for model in above.__subclasses__():
        yield model
        yield from _models(model)


def _model_at(root: type[Model], key: KeyPath) -> type[BaseModel] | None:
    """The model that describes a table of what `root` describes."""
    kind: Any = root
    for step in key:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found = kind.model_fields.get(str(step)) or next(
                (field for field in kind.model_fields.values() if field.alias == step), None
            )
            kind = found.annotation if found else None
        else:
            arguments = [argument for argument in get_args(kind) if argument not in (type(None), ..., str)]
            kind = arguments[-1] if arguments else None
        kind = _plain(kind)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _plain(kind: Any) -> Any:
    """A type without `| None` and without `Annotated`."""
    while True:
        arguments = get_args(kind)
        if hasattr(kind, "__metadata__"):
            kind = arguments[0]
        elif type(None) in arguments and get_origin(kind) is not dict:
            kind = next(argument for argument in arguments if argument is not type(None))
        elif get_origin(kind) in (Union, UnionType):
            # Of several shapes, only one is a table.
            plain = [_plain(argument) for argument in arguments]
            return next((one for one in plain if isinstance(one, type) and issubclass(one, BaseModel)), kind)
        else:
            return kind


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    text = repr(value) if not isinstance(value, str) else '"' + value.replace('"', '\\"') + '"'
    return text if len(text) <= 60 else text[:57] + "…"
