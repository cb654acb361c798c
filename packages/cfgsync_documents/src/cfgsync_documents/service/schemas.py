"""JSON Schema 2020-12: what of a value does not fit, as paths and words. References are local, nothing is ever fetched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from cfgsync_core.text import plain

MOST: Final = 10
"""How many problems a refusal names."""
CUT: Final = 300
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Found = tuple[str, str]
"""A JSON pointer, `""` for the whole value, and words."""

_VALUES: Final = frozenset(("const", "enum", "default", "examples"))


def schema_problems(schema: bytes) -> list[Found]:
    """Why this is not a schema."""
    decoded = json.loads(schema)
    try:
        Draft202012Validator.check_schema(decoded)
    except SchemaError as error:
        return [(_pointer(error.absolute_path), plain(error.message, CUT))]
    if isinstance(decoded, dict) and decoded.get("$schema", DIALECT).rstrip("#") != DIALECT:
        return [("/$schema", f"a schema is of {DIALECT}")]
    resolver = Registry().with_resource("", DRAFT202012.create_resource(decoded)).resolver("")
    references = list(_references(decoded, ""))
    for path, reference in references:
        if not reference.startswith("#"):
            return [(path, "a reference must begin with #: nothing is fetched")]
        try:
            resolver.lookup(reference)
        except Unresolvable:
            return [(path, plain(f"there is no {reference} in the schema", CUT))]
    finished: set[int] = set()
    for path, reference in references:
        try:
            is_endless = _is_endless(
                resolver.lookup(reference).contents, lambda to: resolver.lookup(to).contents, (), finished
            )
        except RecursionError:
            is_endless = True
        if is_endless:
            return [
                (
                    path,
                    plain(f"{reference} leads back to itself without an end, or after too many steps", CUT),
                )
            ]
    return []


def value_problems(schema: bytes, value: bytes) -> list[Found]:
    """What of the value does not fit."""
    try:
        errors = islice(_validator(schema).iter_errors(json.loads(value)), MOST)
        return [(_pointer(error.absolute_path), plain(error.message, CUT)) for error in errors]
    except Exception as error:  # an invalid regular expression, an endless reference
        return [("", plain(f"the schema cannot be applied: {type(error).__name__}: {error}", CUT))]


@lru_cache(maxsize=64)
def _validator(schema: bytes) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema), registry=Registry())


def _references(schema: Any, path: str) -> Iterator[Found]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield f"{path}/{key}", value
            elif key not in _VALUES:
                yield from _references(value, f"{path}/{_escaped(key)}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from _references(value, f"{path}/{number}")


def _is_endless(
    schema: Any, target: Callable[[str], Any], above: tuple[int, ...], finished: set[int]
) -> bool:
    """Whether applying the schema to a value applies it to the same value again. `above` are those that are being applied,
    `finished` those that come to an end."""
    if not isinstance(schema, dict) or id(schema) in finished:
        return False
    if id(schema) in above:
        return True
    same_value = [target(schema[key]) for key in ("$ref", "$dynamicRef") if isinstance(schema.get(key), str)]
    same_value += [schema[key] for key in ("not", "if", "then", "else") if key in schema]
    same_value += [one for key in ("allOf", "anyOf", "oneOf") for one in schema.get(key, ())]
    if any(_is_endless(one, target, (*above, id(schema)), finished) for one in same_value):
        return True
    finished.add(id(schema))
    return False


def _pointer(path: Any) -> str:
    return "".join(f"/{_escaped(str(part))}" for part in path)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
