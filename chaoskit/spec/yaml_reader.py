"""YAML with positions, by the 1.2 core schema: what surprises people is refused or stays text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chaoskit.spec.json_reader import JsonReader, NoJson
from chaoskit.spec.nodes import (
    MOST_DEPTH,
    Listing,
    Node,
    Scalar,
    Table,
    add_entry,
    grow,
    make_scalar,
)
from chaoskit.spec.problems import START, At, Problems

_CORE = "tag:yaml.org,2002:"
_TYPES = {"int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),)}
_KINDS = ("str", "seq", "map", *_TYPES)


def read_tree(text: str, problems: Problems) -> Node:
    """The tree of the one document in the text. Duplicate keys and the like are added to the
    problems; raises InputError where reading cannot go on."""
    if text.lstrip("\r\n\t ")[:1] in ("{", "["):
        tried = Problems(problems.file)
        try:
            node = JsonReader(text, tried).read()
        except NoJson:
            pass
        else:
            problems.take(tried)
            return node
    return _YamlReader(text, problems).read()


class _YamlReader:
    def __init__(self, text: str, problems: Problems) -> None:
        self._problems = problems
        self._events = _events(text)
        self._anchors: dict[str, Node] = {}
        self._open: set[str] = set()

    def read(self) -> Node:
        import yaml

        try:
            return self._document()
        except yaml.YAMLError as error:
            at, message = _explained(error)
            self._problems.stop(at, message)
        except (RecursionError, ValueError, IndexError, OverflowError) as error:
            # The pure Python parser lets a few of its own mistakes through.
            self._problems.stop(START, f"is no YAML: {error}")

    def _document(self) -> Node:
        import yaml

        next(self._events)
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            self._problems.stop(START, "the file is empty")
        node = self._node(next(self._events), 0)
        next(self._events)
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._problems.stop(_at(event), "a second document begins; a file holds one experiment")
        if isinstance(node, Scalar) and node.value is None:
            self._problems.stop(START, "the file is empty")
        return node

    def _node(self, event: Any, depth: int) -> Node:
        import yaml

        at = _at(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), at, depth)
        if event.anchor is not None:
            self._open.add(event.anchor)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, at)
        else:
            if depth == MOST_DEPTH:
                self._problems.stop(at, f"nested deeper than {MOST_DEPTH}")
            if isinstance(event, yaml.SequenceStartEvent):
                self._tag(event, at, ("seq",))
                node = self._listing(at, depth + 1)
            else:
                self._tag(event, at, ("map",))
                node = self._table(at, depth + 1)
        if event.anchor is not None:
            self._open.discard(event.anchor)
            self._anchors[event.anchor] = node
        return node

    def _alias(self, name: str, at: At, depth: int) -> Node:
        if name in self._open:
            self._problems.stop(at, f"the alias *{name} refers to what it is itself part of")
        node = self._anchors.get(name)
        if node is None:
            # It may be a secret without its quotes: it is not repeated.
            self._problems.stop(
                at, "there is no anchor of this alias's name before it; is it text for quotes?"
            )
        if depth + node.depth > MOST_DEPTH:
            self._problems.stop(at, f"nested deeper than {MOST_DEPTH}")
        return node

    def _scalar(self, event: Any, at: At) -> Scalar:
        kind = self._tag(event, at, ("str", *_TYPES))
        is_plain = kind in _TYPES or (not event.style and not kind)
        scalar = make_scalar(at, event.value, is_plain, self._problems)
        if kind in _TYPES and type(scalar.value) not in _TYPES[kind]:
            self._problems.add(at, f"is not what its tag !!{kind} says")
            scalar.broken = True
        return scalar

    def _tag(self, event: Any, at: At, allowed: tuple[str, ...]) -> str:
        """The core schema's name in the tag, `!` for text by hand, "" without one."""
        tag = event.tag
        if tag is None:
            return ""
        if tag == "!":
            return "!"
        kind = str(tag).removeprefix(_CORE)
        if kind not in allowed or not str(tag).startswith(_CORE):
            if kind in _KINDS and str(tag).startswith(_CORE):
                self._problems.add(at, f"the tag !!{kind} does not fit here")
            else:  # It may be a secret without its quotes: it is not repeated.
                self._problems.add(at, "tags are not supported; is it text for quotes?")
        return kind if kind in allowed else ""

    def _listing(self, at: At, depth: int) -> Listing:
        import yaml

        listing = Listing(at)
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item = self._node(event, depth)
            listing.items.append(item)
            grow(listing, item, self._problems, _at(event))
        return listing

    def _table(self, at: At, depth: int) -> Table:
        import yaml

        table = Table(at)
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key_at = _at(event)
            if isinstance(event, yaml.AliasEvent) or not isinstance(event, yaml.ScalarEvent):
                self._problems.stop(key_at, "a key is one text, not a list, a mapping or an alias")
            key = self._node(event, depth)
            assert isinstance(key, Scalar)
            following = next(self._events)
            node = self._node(following, depth)
            grow(table, node, self._problems, _at(following))
            if (event.value == "<<" and not event.style) or event.tag == _CORE + "merge":
                self._problems.add(key_at, "merge keys (<<) are not part of YAML 1.2: write it out")
            else:
                add_entry(table, key.text, key_at, node, self._problems)
        return table


def _events(text: str) -> Iterator[Any]:
    """The parser's events, one by one, so that reading can stop at the first that is too much."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.parse(text, Loader=loader)


def _at(event: Any) -> At:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def _explained(error: Any) -> tuple[At, str]:
    """A parser's complaint at its position, in one line."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    at = (mark.line + 1, mark.column + 1) if mark else START
    told = getattr(error, "problem", None) or getattr(error, "context", None)
    told = told or getattr(error, "reason", None) or "it cannot be parsed"
    context = getattr(error, "context", None)
    return at, f"is no YAML: {told}" + (f" ({context})" if context and context != told else "")
