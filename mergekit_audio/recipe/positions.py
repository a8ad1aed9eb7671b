"""Read YAML 1.1 safely and remember the line and column of every key and value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from mergekit_audio.errors import Fault, RecipeError

Path = tuple[str | int, ...]

MAX_NODES = 100_000
_ALLOWED_TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null")
}
_LEADING_ZERO = re.compile(r"^[-+]?0[0-9_]+$")
_QUOTES = "put it in quotes to keep it as text"


@dataclass(frozen=True)
class Position:
    """A place in a file, 1-based."""

    line: int
    column: int


@dataclass
class Document:
    """A YAML document as plain values, and where each of them stands.

    Parameters
    ----------
    file
        The name shown in faults.
    value
        Mappings with text keys, lists, text, numbers, booleans and None.
    values, keys
        The position of the value, and of its key, by path (``("models", 1, "weight")``).
    faults
        What is wrong with the YAML itself, though it can be read.
    """

    file: str
    value: Any
    values: dict[Path, Position] = field(default_factory=dict)
    keys: dict[Path, Position] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, path: Path, problem: str, *, at_key: bool = False) -> Fault:
        """Return a fault at a path; the nearest enclosing place that the file has is named."""
        places = self.keys if at_key else self.values
        for length in range(len(path), -1, -1):
            if position := places.get(path[:length]) or self.values.get(path[:length]):
                return Fault(self.file, position.line, position.column, spell(path), problem)
        return Fault(self.file, 0, 0, spell(path), problem)


def read(text: str, file: str) -> Document:
    """Return the one document of a YAML text.

    Numbers may be written ``1e-4``; dates stay text. The document's ``faults`` hold: a key twice in
    a mapping, a number with a leading zero (octal in YAML 1.1) or with colons (base 60).

    Raises
    ------
    RecipeError
        The text can't be read: bad syntax, a second document, a key that is not text, a tag such
        as ``!!python/object``, a value that holds itself through an alias.
    """
    document = Document(file, None)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                walk = _Walk(document)
                walk.visit(node, ())
                if walk.fatal:
                    raise RecipeError(document.faults)
                document.value = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise RecipeError([_syntax_fault(error, file)]) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        problem = f"the character U+{ord(text[error.position]):04X} is not allowed in YAML"
        raise RecipeError([Fault(file, line, column, "", problem)]) from error
    except RecursionError as error:
        raise RecipeError([Fault(file, 1, 1, "", "nested too deeply")]) from error
    return document


def spell(path: Path) -> str:
    """Return a path as people read it: ``models[1].weight``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that also reads ``1e-4`` as a number and leaves dates as text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


class _Walk:
    """Visit every node once per place: note positions, collect faults."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.fatal = False
        self.open_nodes: set[int] = set()
        self.visited = 0

    def visit(self, node: yaml.Node, path: Path) -> None:
        self.visited += 1
        self.document.values.setdefault(path, _position(node))
        if id(node) in self.open_nodes:
            return self.refuse(node, path, "this value holds itself through an alias")
        if self.visited > MAX_NODES:
            if self.visited == MAX_NODES + 1:
                self.refuse(node, path, f"more than {MAX_NODES} values; aliases of aliases?")
            return None
        if node.tag not in _ALLOWED_TAGS:
            return self.refuse(node, path, f"the tag {node.tag!r} is not allowed in a recipe")
        self.open_nodes.add(id(node))
        if isinstance(node, yaml.MappingNode):
            self.visit_mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.visit(item, (*path, index))
        elif isinstance(node, yaml.ScalarNode):
            self.visit_scalar(node, path)
        self.open_nodes.discard(id(node))
        return None

    def visit_mapping(self, node: yaml.MappingNode, path: Path) -> None:
        first: dict[str, Position] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged.append(value_node)
                continue
            if key_node.tag != "tag:yaml.org,2002:str":
                self.refuse(
                    key_node, path, f"a key must be text, found {_shown(key_node)}; {_QUOTES}"
                )
                continue
            key = key_node.value
            below = (*path, key)
            if key in first:
                earlier = first[key]
                self.fault(key_node, below, f"the key is here twice; first on line {earlier.line}")
                continue
            first[key] = self.document.keys[below] = _position(key_node)
            self.visit(value_node, below)
        for value_node in merged:
            self.visit_merge(value_node, path)

    def visit_merge(self, node: yaml.Node, path: Path) -> None:
        """Visit ``<<: *other``: keys of the mapping itself keep their positions."""
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(source, yaml.MappingNode):
                self.refuse(source, path, "`<<` takes a mapping or a list of mappings")
            elif id(source) in self.open_nodes:
                self.refuse(source, path, "this value holds itself through an alias")
            else:
                known = dict(self.document.keys)
                self.visit_mapping(source, path)
                self.document.keys.update(known)

    def visit_scalar(self, node: yaml.ScalarNode, path: Path) -> None:
        if node.style is not None or not node.tag.endswith((":int", ":float")):
            return
        if ":" in node.value:
            self.fault(node, path, f"YAML 1.1 reads {node.value} in base 60; {_QUOTES}")
        elif _LEADING_ZERO.match(node.value):
            octal = int(node.value.replace("_", ""), 8)
            self.fault(
                node,
                path,
                f"leading zero: YAML 1.1 reads {node.value} as octal, {octal}; "
                "write it without the zero, or in quotes if it is text",
            )

    def refuse(self, node: yaml.Node, path: Path, problem: str) -> None:
        """Note a fault that makes the whole text unreadable."""
        self.fatal = True
        self.fault(node, path, problem)

    def fault(self, node: yaml.Node, path: Path, problem: str) -> None:
        position = _position(node)
        self.document.faults.append(
            Fault(self.document.file, position.line, position.column, spell(path), problem)
        )


def _position(node: yaml.Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def _shown(node: yaml.Node) -> str:
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or a mapping"


def _syntax_fault(error: yaml.MarkedYAMLError, file: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    problem = " ".join(part for part in (error.context, error.problem) if part)
    if "'\\t'" in problem:
        problem = "a tab can't indent YAML; use spaces"
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return Fault(file, line, column, "", problem)
