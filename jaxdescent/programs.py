"""Compiled programs that equal settings share, and that do not outlive the functions they call.

`jax.jit` compares static arguments with `==` and stores them. An optimizer that is written inline
is then a new object at each call and compiles again, the data that a function closes over stays in
memory, and an object that holds arrays cannot be an argument. Here a static argument is identified
as follows:

- Numbers, strings, containers, frozen dataclasses and small arrays: by their values.
- Functions of JAX, optax, flax and this package: by their code and what they close over. Two
  transformations made by `optax.adam(0.1)` are therefore equal.
- All other functions and objects, and those that hold large arrays: by identity. When one of them
  is garbage-collected, its programs are dropped, and with them the arrays. When an attribute of an
  object or a variable that a function reads has changed, the program is compiled anew. Large arrays
  of NumPy that are changed in place are not looked at.
"""

import functools
import hashlib
import sys
import threading
import types
import weakref
from collections.abc import Callable, Hashable, Iterable
from dataclasses import fields
from typing import Any

import jax
import numpy as np

CAPACITY = 128
"""Number of programs that a function keeps; the least recently used one is dropped first."""

SMALL = 64
"""JAX arrays of at most this many elements are identified by their values."""

LIBRARIES = frozenset({"chex", "flax", "jax", "jaxdescent", "jaxlib", "numpy", "optax"})
"""Packages whose functions depend only on their code and on what they close over."""


def compiled(*static: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns a decorator that compiles a function as `jax.jit` does.

    Args:
      *static: names of keyword-only arguments that are functions or settings of any kind. The other
        arguments are trees of arrays; static parts of the trees may be functions, too.

    Example:
      >>> import jax.numpy as jnp
      >>> @compiled("function")
      ... def apply(x, *, function):
      ...     return function(x)
      >>> apply(jnp.ones(2), function=jnp.cumsum).tolist()
      [1.0, 2.0]
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        programs: dict[Hashable, _Program] = {}

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            settings = {name: kwargs.pop(name) for name in static}
            leaves, structure = jax.tree.flatten((args, kwargs))
            try:
                identity = Identity((structure, settings))
            except UnidentifiableError:
                return _Program(function).run(structure, settings, leaves)
            parts = identity.parts
            attributes = _attributes(parts)
            program = programs.pop(identity.key, None)
            if program is None or program.is_outdated(attributes):
                program = _Program(function)
                program.drop_with(identity, programs)
            programs[identity.key] = program  # the most recently used one stands last
            while len(programs) > CAPACITY:
                programs.pop(next(iter(programs)), None)
            return program.run(structure, settings, leaves, parts, attributes)

        return call

    return decorate


class _Program:
    """One compiled function for settings of one identity.

    The settings are passed at each call and are read only during tracing, so that neither the
    program nor the caches of JAX store them.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        present = self._present = threading.local()

        def traced(leaves: list[Any]) -> Any:
            structure, settings = present.call
            present.has_traced = True
            args, kwargs = jax.tree.unflatten(structure, leaves)
            return function(*args, **kwargs, **settings)

        traced.__name__ = function.__name__  # shown by profilers
        self._jitted = jax.jit(traced)
        self._references: list[Any] = []
        self._attributes: dict[Any, Hashable] = {}
        self._moving: set[Any] = set()

    def run(
        self,
        structure: Any,
        settings: dict[str, Any],
        leaves: list[Any],
        parts: Iterable[Any] = (),
        attributes: dict[Any, Hashable] | None = None,
    ) -> Any:
        """Runs the program on the leaves of its arguments.

        Args:
          structure: of the arguments.
          settings: the static arguments.
          leaves: of the arguments.
          parts: the functions and objects in the settings that are identified by identity.
          attributes: what they read, as `_attributes` describes it.
        """
        present = self._present
        before = getattr(present, "call", None), getattr(present, "has_traced", False)
        present.call, present.has_traced = (structure, settings), False
        attributes = attributes or {}
        try:
            return self._jitted(leaves)
        finally:
            if present.has_traced:
                self._attributes = _attributes(parts)
                self._moving |= _differences(attributes, self._attributes)
                self._moving |= _differences(self._attributes, attributes)
            present.call, present.has_traced = before

    def is_outdated(self, attributes: dict[Any, Hashable]) -> bool:
        """True if what functions and objects read has changed since they were traced.

        Attributes that the trace itself changed, such as a count of calls, are left out.
        """
        return not _differences(self._attributes, attributes) <= self._moving

    def drop_with(self, identity: "Identity", programs: dict[Hashable, "_Program"]) -> None:
        """Removes this program from `programs` when a part of its settings is collected."""

        def drop(_: Any) -> None:
            programs.pop(identity.key, None)

        parts, identity.parts = identity.parts, []
        self._references = [weakref.ref(part, drop) for part in parts]


_READ_ALL = frozenset({"__dict__", "getattr", "tree", "vars"})  # names of what reads any attribute
_DEPTH = 6  # of attributes of attributes
_LONG = 64  # entries of a container
_LARGE = 2**20  # bytes of an array of NumPy


def _attributes(parts: Iterable[Any]) -> dict[Any, Hashable]:
    """Describes the variables and attributes that functions read, by part or module and name."""
    parts = [*parts]
    names, found = _read_by(parts)
    for i, part in enumerate(parts):
        found |= {(i, name): value for name, value in _held_by(part, names).items()}
    return {key: _fingerprint(value, names, _DEPTH) for key, value in found.items()}


def _held_by(value: Any, names: Any) -> dict[str, Any]:
    """Returns the variables of a function, or the attributes of an object with one of the names.

    All attributes of an object of a library, such as a module of Flax NNX.
    """
    if isinstance(value, types.FunctionType):
        if _is_of_library(value):
            return {}
        cells = map(_cell_contents, value.__closure__ or ())
        code = value.__code__
        held = dict(zip(code.co_freevars, cells, strict=False))
        return {**held, "code": code, "defaults": (value.__defaults__, value.__kwdefaults__)}
    if isinstance(value, type | types.ModuleType | _Jitted):
        return {}
    attributes = getattr(value, "__dict__", {})
    if not isinstance(attributes, dict):
        return {}
    reads_all = not _is_of_user(type(value)) or not names.isdisjoint(_READ_ALL)
    return {name: x for name, x in list(attributes.items()) if reads_all or name in names}


def _read_by(parts: Iterable[Any]) -> tuple[set[str], dict[Any, Any]]:
    """Returns the names in the code of functions and objects, and of what they may call.

    A method that reads few attributes of a large object, such as a trainer, is not compiled anew
    when the others change.

    Returns:
      The names, and the global variables among them by module and name.
    """
    names, variables, kinds, seen, todo = {"__call__"}, {}, set(), set(), [*parts]
    while todo:
        value = todo.pop()
        if isinstance(value, types.FunctionType):
            code, scope = value.__code__, value.__globals__
            if code in seen or _is_of_library(value):
                continue
            seen.add(code)
            names |= _names_in(code)
            todo += _held_by(value, names).values()
            read = {n: scope[n] for n in _names_in(code) if n in scope}
            variables |= {(id(scope), n): x for n, x in read.items()}
            todo += [x for x in read.values() if isinstance(x, types.FunctionType)]
        elif id(value) not in seen and _is_of_user(type(value)):
            seen.add(id(value))
            kinds.add(type(value))
            todo += getattr(value, "__dict__", {}).values()
        todo += [f for f in _methods(kinds, names) if f.__code__ not in seen]
    return names, variables


def _is_of_user(kind: type) -> bool:
    return kind.__module__ not in ("builtins", "types") and _library(kind.__module__) is None


def _methods(kinds: set[type], names: set[str]) -> list[types.FunctionType]:
    """Returns the functions behind methods and properties with one of the names."""
    members = [vars(base).get(name) for kind in kinds for base in kind.__mro__ for name in names]
    functions = [
        getattr(member, "fget", None) or getattr(member, "__func__", member) for member in members
    ]
    return [f for f in functions if isinstance(f, types.FunctionType) and not _is_of_library(f)]


def _names_in(code: types.CodeType) -> set[str]:
    inner = [x for x in code.co_consts if isinstance(x, types.CodeType)]
    return set(code.co_names).union(*map(_names_in, inner))


def _fingerprint(value: Any, names: set[str], depth: int) -> Hashable:
    """Returns a description of a value that changes with it."""
    if value is None or isinstance(value, bool | int | float | complex):
        return type(value), repr(value)
    if isinstance(value, str | bytes):
        return type(value), hash(value)
    if isinstance(value, np.ndarray) and value.dtype != object and value.nbytes <= _LARGE:
        return value.shape, value.dtype.str, hashlib.blake2b(value.tobytes()).digest()
    if isinstance(value, jax.Array):
        if not _is_small(value):
            return id(value)  # which a program that uses it holds
        small = np.asarray(value)
        return small.shape, small.dtype.str, small.tobytes()
    if hasattr(type(value), "get_raw_value"):  # a variable of Flax NNX
        return _fingerprint(value.get_raw_value(), names, depth)
    if depth == 0:
        return id(value)
    held: Any = _held_by(value, names)
    if isinstance(value, list | tuple | dict | set | frozenset):
        if len(value) > _LONG:
            return type(value), len(value)
        held = value
    if isinstance(held, dict):
        held = [x for item in list(held.items()) for x in item]
    inner = tuple(_fingerprint(x, names, depth - 1) for x in list(held)[: 2 * _LONG])
    is_described = inner or isinstance(value, list | tuple | dict)
    return (type(value), inner) if is_described else id(value)


def _differences(old: dict[Any, Hashable], new: dict[Any, Hashable]) -> set[Any]:
    return {name for name in old if old[name] != new.get(name)}


class UnidentifiableError(TypeError):
    """Raised for settings that can be identified neither by value nor by identity."""


_Jitted = type(jax.jit(len))

_NEVER_BY_IDENTITY = (
    *(tuple, list, dict, set, frozenset, types.MappingProxyType),
    *(types.MethodType, jax.tree_util.PyTreeDef),  # new objects at each access
    jax.Array,  # which a program may keep alive itself
)


class Identity:
    """A hashable description of settings; settings of equal descriptions share programs.

    Attributes:
      key: the description. It names by its `id` each part that is compared by identity, and so does
        not keep it alive.
      parts: those parts. The description is valid as long as all of them are alive.

    Raises:
      UnidentifiableError: a part can neither be described nor referred to weakly.

    Example:
      >>> import optax
      >>> Identity(optax.adam(0.1)).key == Identity(optax.adam(0.1)).key
      True
      >>> Identity(optax.adam(0.1)).key == Identity(optax.adam(0.2)).key
      False
    """

    def __init__(self, value: Any) -> None:
        self.parts: list[Any] = []
        self._enclosing: list[int] = []  # ids of what is being described
        self.key = self._describe(value)

    def _describe(self, value: Any) -> Hashable:
        if value is None or isinstance(value, bool | int | complex | str | bytes):
            return type(value), value
        if isinstance(value, float):
            return float, repr(value)  # tells -0.0 from 0.0, and NaN equals itself
        if id(value) in self._enclosing:
            return "enclosing", self._enclosing.index(id(value))
        self._enclosing.append(id(value))
        first = len(self.parts)
        try:
            return self._describe_compound(value)
        except UnidentifiableError:
            del self.parts[first:]
            return self._describe_by_identity(value)
        finally:
            self._enclosing.pop()

    def _describe_compound(self, value: Any) -> Hashable:
        kind = type(value)
        match value:
            case tuple() | list():
                attributes = getattr(value, "__dict__", {})
                return "sequence", *self._describe_all([kind, attributes, *value])
            case dict() | types.MappingProxyType():
                return "mapping", *self._describe_all([kind, *value, *value.values()])
            case set() | frozenset():
                return "set", kind.__name__, frozenset(map(self._describe, value))
            case np.ndarray() | np.generic() if value.dtype != object:
                digest = hashlib.blake2b(value.tobytes()).digest()
                return "array", value.shape, value.dtype, digest
            case jax.Array() if _is_small(value):
                small = np.asarray(value)
                return "jax.Array", small.shape, small.dtype, value.weak_type, small.tobytes()
            case functools.partial():
                return "partial", self._describe_all([value.func, value.args, value.keywords])
            case types.MethodType():
                return "method", self._describe_all([value.__func__, value.__self__])
            case types.FunctionType() if _is_of_library(value):
                return "function", value.__code__, *self._describe_all(_contents(value))
            case _Jitted() if _is_of_library(wrapped := getattr(value, "__wrapped__", None)):
                return "jit", self._describe(wrapped)
            case jax.tree_util.PyTreeDef():
                return "tree", *self._describe_all([value.node_data(), *value.children()])
        if _is_compared_by_fields(kind):
            compared = [getattr(value, field.name) for field in fields(kind) if field.compare]
            return "dataclass", self._describe_all([kind, *compared])
        return self._describe_by_identity(value)

    def _describe_all(self, values: Iterable[Any]) -> tuple[Hashable, ...]:
        return tuple(map(self._describe, values))

    def _describe_by_identity(self, value: Any) -> Hashable:
        if isinstance(value, _NEVER_BY_IDENTITY):
            kind = type(value).__name__
            raise UnidentifiableError(f"{kind} must be identified by what holds it")
        kind = type(value)
        has_equality = kind.__hash__ not in (None, object.__hash__)
        try:
            reference = weakref.ref(value)
        except TypeError:
            if not has_equality and _library(kind.__module__) is None:
                raise UnidentifiableError(f"{kind} can only be compared by identity") from None
            return "object", value  # such as a dtype or a ufunc
        self.parts.append(value)
        if has_equality and not isinstance(value, type):
            try:
                hash(reference)
            except Exception:  # a field of it is not hashable
                return "object", id(value)
            return "equal object", reference
        return "object", id(value)


def _library(module: str) -> types.ModuleType | None:
    """Returns a module if it belongs to one of `LIBRARIES`."""
    return sys.modules.get(module) if module.partition(".")[0] in LIBRARIES else None


def _is_of_library(function: Callable[..., Any] | None) -> bool:
    """Returns True if the function's code was loaded with a module of `LIBRARIES`."""
    scope = getattr(function, "__globals__", {})
    module = _library(scope.get("__name__", ""))
    return module is not None and vars(module) is scope


def _contents(function: types.FunctionType) -> list[Any]:
    """Returns everything besides its code on which a function of a library depends."""
    cells = [_cell_contents(cell) for cell in function.__closure__ or ()]
    module = function.__globals__["__name__"]
    return [module, function.__defaults__, function.__kwdefaults__, vars(function), *cells]


def _cell_contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return "empty cell"


def _is_small(value: jax.Array) -> bool:
    return (
        not isinstance(value, jax.core.Tracer)
        and not value.is_deleted()
        and value.size <= SMALL
        and value.is_fully_addressable
        and not jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended)
    )


def _is_compared_by_fields(kind: type) -> bool:
    """Returns True for dataclasses of `LIBRARIES`, and for those that compare by value."""
    if "__dataclass_params__" not in vars(kind):
        return False
    parameters = vars(kind)["__dataclass_params__"]
    return _library(kind.__module__) is not None or (parameters.frozen and parameters.eq)
