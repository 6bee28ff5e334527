"""Compiled programs that equal settings share, and that do not outlive the functions they call.

`jax.jit` compares static arguments with `==` and stores them. An optimizer that is written inline
is then a new object at each call and compiles again, the data that a function closes over stays in
memory, and an object that holds arrays cannot be an argument. Here a static argument is identified
as follows:

- Numbers, strings, containers, frozen dataclasses and small arrays: by their values.
- Functions of JAX, optax, flax and this package: by their code and what they close over. Two
  transformations made by `optax.adam(0.1)` are therefore equal.
- All other functions and objects, and those that hold large arrays: by identity. When one of them
  is garbage-collected, its programs are dropped, and with them the arrays.
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
            program = programs.pop(identity.key, None)
            if program is None:
                program = _Program(function)
                program.drop_with(identity, programs)
            programs[identity.key] = program  # the most recently used one stands last
            while len(programs) > CAPACITY:
                programs.pop(next(iter(programs)), None)
            return program.run(structure, settings, leaves)

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
            args, kwargs = jax.tree.unflatten(structure, leaves)
            return function(*args, **kwargs, **settings)

        traced.__name__ = function.__name__  # shown by profilers
        self._jitted = jax.jit(traced)
        self._references: list[Any] = []

    def run(self, structure: Any, settings: dict[str, Any], leaves: list[Any]) -> Any:
        """Runs the program on the leaves of its arguments."""
        before = getattr(self._present, "call", None)
        self._present.call = structure, settings
        try:
            return self._jitted(leaves)
        finally:
            self._present.call = before

    def drop_with(self, identity: "Identity", programs: dict[Hashable, "_Program"]) -> None:
        """Removes this program from `programs` when a part of its settings is collected."""

        def drop(_: Any) -> None:
            programs.pop(identity.key, None)

        parts, identity.parts = identity.parts, []
        self._references = [weakref.ref(part, drop) for part in parts]


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
            raise UnidentifiableError(f"{value!r} must be identified by what holds it")
        kind = type(value)
        has_equality = kind.__hash__ not in (None, object.__hash__)
        try:
            reference = weakref.ref(value)
        except TypeError:
            if not has_equality and _library(kind.__module__) is None:
                raise UnidentifiableError(f"{value!r} can only be compared by identity") from None
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
