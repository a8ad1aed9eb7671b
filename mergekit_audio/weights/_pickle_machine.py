"""Carry out a pickle's own operations within bounds: it builds values and can call nothing.

Python's unpickler looks names up safely when it is told to, but a program for it can still set the
attributes of any object (BUILD), make a memo of 2^31 places (LONG_BINPUT), or end the process by
hashing tuples that are nested a million deep. Here each operation is one that ``torch.save``
writes, an object changes only as its class says, and everything is counted.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from mergekit_audio.weights._placeholder import Placeholder, PlaceholderClass

STEPS_LIMIT = 500_000
"""Operations of a program; MERT-v1-330M's takes about a fifth with its optimiser's state."""

_ARGUMENTS_LIMIT = 16
_KEY_BITS_LIMIT = 60
_KEY_DEPTH_LIMIT = 4
_TUPLE_DEPTH_LIMIT = 32

_VALUES = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    }
)
_OLD_TEXTS = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING"})
_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: Mapping[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = frozenset({"PROTO", "FRAME"})


@dataclass(frozen=True)
class Function:
    """A function of ours that a program may call; it gets the program's arguments."""

    made: Callable[..., Any]


def run_program(
    stream: BinaryIO | io.BytesIO,
    find: Callable[[str, str], Any],
    storage: Callable[[Any], Any],
    *,
    widest: int = STEPS_LIMIT,
) -> Any:
    """Return the value that a pickle builds, and leave the stream behind its end.

    Parameters
    ----------
    stream
        Holds the pickle, of any protocol.
    find
        Returns what stands for (module, name): a :class:`Function`, a ``PlaceholderClass`` or a
        value of its own. It raises for every other name.
    storage
        Returns what a persistent id stands for.
    widest
        The longest tuple, and the largest state of an object.

    Raises
    ------
    Exception
        Of any kind: the program is damaged, uses an operation that ``torch.save`` does not write
        (INST, OBJ, extension codes, buffers, sets), or takes more than ``STEPS_LIMIT`` steps.
    """
    machine = _Machine(find, storage, widest)
    for step, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        if step >= STEPS_LIMIT:
            raise pickle.UnpicklingError(f"a pickle of more than {STEPS_LIMIT} steps")
        if operation.name == "STOP":
            break
        machine.do(operation.name, argument)
    return machine.stack.pop()


class _Machine:
    def __init__(
        self, find: Callable[[str, str], Any], storage: Callable[[Any], Any], widest: int
    ) -> None:
        self._widest = widest
        self.stack: list[Any] = []
        self._find = find
        self._storage = storage
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._depths: dict[int, int] = {}

    def do(self, name: str, argument: Any) -> None:
        """Carry out one operation."""
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _OLD_TEXTS:
            stack.append(argument.encode("latin-1").decode("utf-8", "replace"))
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._push_tuple(self._top(_TUPLES[name]))
        elif name not in _IGNORED:
            method = _OPERATIONS.get(name)
            if method is None:
                raise pickle.UnpicklingError(f"{name}, which torch.save does not write")
            method(self, argument)

    def _top(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise pickle.UnpicklingError("an operation without its values")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _to_mark(self) -> list[Any]:
        height = self._marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self.stack))

    def _pop(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self.stack):
            self._marks.pop()
        else:
            self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._to_mark()

    def _duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _put(self, place: Any) -> None:
        if not 0 <= place < 1 << 32:
            raise pickle.UnpicklingError("a place beyond the memo")
        self._memo[place] = self.stack[-1]

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def _get(self, place: Any) -> None:
        self.stack.append(self._memo[place])

    def _tuple(self, _: Any) -> None:
        self._push_tuple(self._to_mark())

    def _push_tuple(self, values: list[Any]) -> None:
        made = tuple(values)
        inside = [self._depths[id(each)] for each in values if isinstance(each, tuple) and each]
        depth = 1 + max(inside, default=0)
        if depth > _TUPLE_DEPTH_LIMIT or len(made) > self._widest:
            raise pickle.UnpicklingError("tuples that are nested too deeply or too long")
        self._depths[id(made)] = depth
        self.stack.append(made)

    def _list(self, _: Any) -> None:
        self.stack.append(self._to_mark())

    def _dict(self, _: Any) -> None:
        values = self._to_mark()
        self.stack.append({})
        self._set(values)

    def _append(self, _: Any) -> None:
        self._extend(self._top(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._to_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, (list, Placeholder)):
            raise pickle.UnpicklingError("elements of something that is no list")
        target.extend(values)

    def _set_item(self, _: Any) -> None:
        self._set(self._top(2))

    def _set_items(self, _: Any) -> None:
        self._set(self._to_mark())

    def _set(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, (dict, Placeholder)):
            raise pickle.UnpicklingError("items of something that is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_checked_key(key)] = value

    def _global(self, argument: Any) -> None:
        module, _, name = argument.partition(" ")  # a module's name has no space
        self.stack.append(self._find(module, name))

    def _stack_global(self, _: Any) -> None:
        module, name = self._top(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise pickle.UnpicklingError("a name that is no text")
        self.stack.append(self._find(module, name))

    def _call(self, _: Any) -> None:
        called, arguments = self._top(2)
        if not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("a call without its arguments")
        if isinstance(called, Function):
            if len(arguments) > _ARGUMENTS_LIMIT:
                raise pickle.UnpicklingError("a call with too many arguments")
            self.stack.append(called.made(*arguments))
        elif isinstance(called, PlaceholderClass):
            self.stack.append(Placeholder(called.global_name, arguments))
        else:
            raise pickle.UnpicklingError("a call of something that is no function")

    def _call_named(self, argument: Any) -> None:
        self._top(1)
        self._call(argument)

    def _persistent(self, _: Any) -> None:
        (identity,) = self._top(1)
        self.stack.append(self._storage(identity))

    def _build(self, _: Any) -> None:
        (state,) = self._top(1)
        target = self.stack[-1]
        if isinstance(state, (dict, list)) and len(state) > self._widest:
            raise pickle.UnpicklingError("a state that is too large")
        if isinstance(target, Placeholder):
            target.set_state(state)
        elif not isinstance(target, OrderedDict):  # a state_dict's _metadata, which says nothing
            raise pickle.UnpicklingError(f"a state for a {type(target).__name__}")


_OPERATIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "POP": _Machine._pop,
    "POP_MARK": _Machine._pop_mark,
    "DUP": _Machine._duplicate,
    "PUT": _Machine._put,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "GET": _Machine._get,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "TUPLE": _Machine._tuple,
    "LIST": _Machine._list,
    "DICT": _Machine._dict,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._call,
    "NEWOBJ": _Machine._call,
    "NEWOBJ_EX": _Machine._call_named,
    "BINPERSID": _Machine._persistent,
    "BUILD": _Machine._build,
}


def ordered_dict(pairs: Any = None) -> OrderedDict[Any, Any]:
    """Return what ``collections.OrderedDict`` stands for: Python 2 gives it its pairs at once."""
    made: OrderedDict[Any, Any] = OrderedDict()
    if pairs is None:
        return made
    if not isinstance(pairs, list):
        raise pickle.UnpicklingError("items that are no list")
    for key, value in pairs:
        made[_checked_key(key)] = value
    pairs.clear()  # given again and again it would make more than the program has steps
    return made


def _checked_key(key: Any, depth: int = _KEY_DEPTH_LIMIT) -> Any:
    """Return a key whose hash is quick to compute and hard to choose."""
    if isinstance(key, tuple) and depth and len(key) <= _ARGUMENTS_LIMIT:
        for each in key:
            _checked_key(each, depth - 1)
        return key
    small = isinstance(key, int) and key.bit_length() <= _KEY_BITS_LIMIT
    if key is None or small or isinstance(key, (str, bytes, Placeholder, PlaceholderClass)):
        return key
    raise pickle.UnpicklingError(f"a {type(key).__name__} as a key")
