"""A YAML file becomes places in one pass, with limits on size, depth and expansion, and distinct keys.

It means what it says or is refused: merge keys (`<<`) are merged, standard tags are honoured, any other tag is an error.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NoReturn

import yaml

from ..errors import InputError
from .yaml_place import Items, Place, Table, Text, Value

MAX_YAML_BYTES: Final = 64 << 20
MAX_EXPANDED_BYTES: Final = 256 << 20
"""Of a document with every alias replaced by its value: ten lines can expand to gigabytes."""
MAX_DEPTH: Final = 32
_UNREADABLE: Final[dict[type[Exception], tuple[str, str]]] = {
    FileNotFoundError: (
        "no such file",
        "check the name; relative ones begin at the current directory, inside a server file at its directory",
    ),
    IsADirectoryError: ("is a directory", "name a YAML file in it"),
    PermissionError: ("no permission to read it", "chmod u+r {path}, or run as its owner"),
}
_MERGE: Final = "<<"
_VALUE_BYTES = (
    64  # what a value costs besides its text, so that an expansion into empty values is bounded too
)
_STANDARD: Final = "tag:yaml.org,2002:"
_SCALARS: Final = {
    "str": "",
    "null": "!!null",
    "int": "!!int",
    "float": "!!float",
    "bool": "!!bool",
    "binary": "!!binary",
}
"""What a tag says of a scalar, as the `tag` of a `Text`; "" is text."""
_COLLECTIONS: Final = {yaml.SequenceStartEvent: "seq", yaml.MappingStartEvent: "map"}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_document(path: Path) -> Place:
    """The one YAML document in a file. Raises `InputError`."""
    return Place(path, _Composer(path).compose(_read(path)))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_YAML_BYTES + 1)
    except (OSError, ValueError) as error:
        why, hint = _UNREADABLE.get(type(error), (f"cannot be read: {error}", "check the file and its disk"))
        raise InputError(f"{path}: {why}", hint.format(path=path)) from error
    if len(data) > MAX_YAML_BYTES:
        raise InputError(
            f"{path}: larger than {MAX_YAML_BYTES >> 20} MiB", "spread the nodes over several servers"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 text (byte 0x{data[error.start]:02x})",
            "save it as UTF-8; binary content is written as `encoding: base64`",
        ) from error


class _Composer:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._anchors: dict[str, tuple[Value, int]] = {}
        self._expanded = 0

    def compose(self, text: str) -> Value:
        try:
            return self._document(yaml.parse(text, _LOADER))
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise InputError(
                f"{self._path}:{line}: not YAML: {error.reason}",
                "remove the character; binary content is written as `encoding: base64`",
            ) from error
        except yaml.MarkedYAMLError as error:
            self._not_yaml(text, error)

    def _not_yaml(self, text: str, error: yaml.MarkedYAMLError) -> NoReturn:
        mark, began = error.problem_mark, error.context_mark
        number = mark.line if mark is not None else 0
        at = f"{self._path}:{number + 1}:{mark.column + 1 if mark is not None else 1}"
        context = f" {error.context} that began on line {began.line + 1}" if error.context and began else ""
        line = next(islice(io.StringIO(text), number, None), "")
        if "\t" in line[: len(line) - len(line.lstrip())]:
            hint = f"line {number + 1} is indented with a tab; YAML takes spaces only"
        else:
            hint = "check indentation, colons and quotes on that line and the one before"
        raise InputError(f"{at}: not YAML{context}: {error.problem}", hint) from error

    def _document(self, events: Iterator[yaml.Event]) -> Value:
        root: Value | None = None
        open_: list[_Open] = []
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                self._refuse(event, "a second document begins", "keep one document a file; remove this `---`")
            if isinstance(event, yaml.CollectionEndEvent):
                done = open_.pop()
                value: Value = done.value
                if done.merges:
                    self._merge(done)
                if done.anchor is not None:
                    self._anchors[done.anchor] = (value, self._expanded - done.expanded_before)
            elif isinstance(event, yaml.NodeEvent):
                made = self._value(event, open_)
                if made is None:
                    continue
                value = made
            else:
                continue
            if open_:
                self._add(open_[-1], value, event)
            else:
                root = value
        if root is None:
            raise InputError(f"{self._path}: empty", "write a mapping of keys and values into it")
        return root

    def _value(self, event: yaml.NodeEvent, open_: list[_Open]) -> Value | None:
        """The value of an event; None for a collection, which is complete at its end."""
        line, column = _line_and_column(event)
        before = self._expanded
        if isinstance(event, yaml.AliasEvent):
            if any(collection.anchor == event.anchor for collection in open_):
                self._refuse(
                    event, f"*{event.anchor} is inside the value that it names", "write the value out"
                )
            if event.anchor not in self._anchors:
                self._refuse(
                    event,
                    f"*{event.anchor} names no value",
                    f"write &{event.anchor} before a value above",
                )
            value, cost = self._anchors[event.anchor]
            self._grow(event, cost)
            return value
        if isinstance(event, yaml.ScalarEvent):
            self._grow(event, _VALUE_BYTES + len(event.value))
            text = self._text(event, line, column)
            if event.anchor is not None:
                self._anchors[event.anchor] = (text, self._expanded - before)
            return text
        if len(open_) == MAX_DEPTH:
            self._refuse(event, f"nested deeper than {MAX_DEPTH}", "nothing here needs more than five levels")
        self._grow(event, _VALUE_BYTES)
        assert isinstance(event, yaml.CollectionStartEvent)
        if event.tag not in (None, "!", f"{_STANDARD}{_COLLECTIONS[type(event)]}"):
            self._refuse_tag(event)
        is_list = isinstance(event, yaml.SequenceStartEvent)
        open_.append(
            _Open(Items(line, column, []) if is_list else Table(line, column, {}), event.anchor, before)
        )
        return None

    def _text(self, event: yaml.ScalarEvent, line: int, column: int) -> Text:
        plain = not event.style and event.implicit[0] and event.tag is None
        if event.tag in (None, "!"):
            return Text(line, column, event.value, plain)
        name = event.tag.removeprefix(_STANDARD)
        if name == "merge" and event.value == _MERGE:
            return Text(line, column, event.value, True)
        if name == event.tag or name not in _SCALARS:
            self._refuse_tag(event)
        return Text(line, column, event.value, False, _SCALARS[name])

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> NoReturn:
        tag = (event.tag or "").replace(_STANDARD, "!!")
        self._refuse(
            event,
            f"the tag {tag[:80]} means nothing here",
            "put in what the tool of that tag would make of it (decrypted, included), or remove the tag",
        )

    def _merge(self, done: _Open) -> None:
        """What `<<` refers to, below what the mapping says itself; of several the first one wins."""
        assert isinstance(done.value, Table)
        for key, value in done.merges:
            for source in value.items if isinstance(value, Items) else [value]:
                if not isinstance(source, Table):
                    self._refuse_at(
                        (key.line, key.column),
                        "a merge key (`<<`) takes a mapping, or a list of mappings",
                        'write `<<: *name`; as a name it is `"<<"`',
                    )
                self._grow_at((key.line, key.column), _VALUE_BYTES * len(source.entries))
                for name, entry in source.entries.items():
                    done.value.entries.setdefault(name, entry)

    def _add(self, collection: _Open, value: Value, event: yaml.Event) -> None:
        into = collection.value
        if isinstance(into, Items):
            into.items.append(value)
        elif collection.key is not None and collection.key.plain and collection.key.text == _MERGE:
            collection.merges.append((collection.key, value))
            collection.key = None
        elif collection.key is not None:
            into.entries[collection.key.text] = (collection.key, value)
            collection.key = None
        elif not isinstance(value, Text):
            self._refuse(event, "expected a key, found a list or mapping", "write keys as text")
        elif value.tag not in ("", "!!null"):
            self._refuse(event, f"a key with the tag {value.tag}", "write keys as text")
        elif value.plain and value.text == _MERGE and collection.merges:
            first = collection.merges[0][0].line
            self._refuse(
                event, f"a second `<<`, the first is on line {first}", "merge a list: `<<: [*one, *two]`"
            )
        elif value.text in into.entries:
            first = into.entries[value.text][0].line
            self._refuse(
                event,
                f"the key {value.text[:80]!r} is given twice, first on line {first}",
                "keep one of them; the other would be lost",
            )
        else:
            collection.key = value

    def _grow(self, event: yaml.Event, cost: int) -> None:
        self._grow_at(_line_and_column(event), cost)

    def _grow_at(self, at: tuple[int, int], cost: int) -> None:
        self._expanded += cost
        if self._expanded > MAX_EXPANDED_BYTES:
            self._refuse_at(
                at,
                f"with its aliases written out the document is larger than {MAX_EXPANDED_BYTES >> 20} MiB",
                "put what every node gets under the shared files instead of repeating it",
            )

    def _refuse(self, event: yaml.Event, why: str, hint: str) -> NoReturn:
        self._refuse_at(_line_and_column(event), why, hint)

    def _refuse_at(self, at: tuple[int, int], why: str, hint: str) -> NoReturn:
        raise InputError(f"{self._path}:{at[0]}:{at[1]}: {why}", hint)


def _line_and_column(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (1, 1) if mark is None else (mark.line + 1, mark.column + 1)


class _Open:
    """A collection whose end has not come; `key` waits for its value, `merges` for the end."""

    __slots__ = ("anchor", "expanded_before", "key", "merges", "value")

    def __init__(self, value: Items | Table, anchor: str | None, expanded_before: int) -> None:
        self.value = value
        self.anchor = anchor
        self.expanded_before = expanded_before
        self.key: Text | None = None
        self.merges: list[tuple[Text, Value]] = []
