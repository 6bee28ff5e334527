"""The format of a checkpoint on disk: how its arrays and facts are written with Orbax and read.

Orbax cannot store an array without elements. The facts (a JSON file) have its shape and dtype.
"""

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from experiments.runner.digests import check_digests
from experiments.runner.named_arrays import check_match, key_data, named_leaves, rebuild

_FORMAT = "jaxdescent checkpoint 2"
_EARLIER = "jaxdescent checkpoint 1"


class Checkpoint(NamedTuple):
    """The content of a checkpoint.

    Attributes:
      step: the number of steps that it was saved after.
      carry: a tree of arrays like the example.
      best: the arrays of the best evaluation by name; empty if none were saved.
      facts: the JSON that was given to `Checkpoints.save`.
    """

    step: int
    carry: Any
    best: dict[str, np.ndarray]
    facts: dict[str, Any]


class UnusableError(Exception):
    """A checkpoint that exists and is damaged, foreign, or another run's."""


class OutdatedError(UnusableError):
    """A checkpoint in the format of an earlier version."""


def save_args(
    items: Mapping[str, Mapping[str, Any]], owner: str, facts: Mapping[str, Any]
) -> ocp.args.Composite:
    """Returns what Orbax saves.

    Args:
      items: "carry" and "best", each with its arrays by name.
      owner: identifies the run.
      facts: JSON.
    """
    empty = {}
    args: dict[str, Any] = {}
    for item, arrays in items.items():
        empty[item] = {
            name: [data.dtype.name, data.shape]
            for name, data in ((name, key_data(a)) for name, a in arrays.items() if not a.size)
        }
        stored = {name: array for name, array in arrays.items() if array.size}
        if stored:
            args[item] = ocp.args.StandardSave(stored)
    record = {"format": _FORMAT, "owner": owner, "facts": dict(facts), "empty": empty}
    return ocp.args.Composite(facts=ocp.args.JsonSave(record), **args)


class SavedCheckpoint:
    """A complete checkpoint on disk.

    Args:
      path: its folder.
      owner: the owner that it must have; any by default.

    Raises:
      UnusableError: it is foreign, of an earlier version, or another owner's.
      Exception: it is damaged; so does each method.
    """

    def __init__(self, path: Path, owner: str | None = None):
        check_digests(path)
        self.path = path
        foreign = UnusableError(f"{path} is not a checkpoint of these experiments")
        if not (path / "facts").is_dir():
            raise foreign
        record = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(path.absolute() / "facts")
        if not isinstance(record, dict):
            raise foreign
        if record.get("format") == _EARLIER:
            raise OutdatedError(
                f"{path} was saved by an earlier version, which this one cannot read; "
                "start a new run"
            )
        if record.get("format") != _FORMAT:
            raise foreign
        if owner is not None and record["owner"] != owner:
            raise UnusableError(f"{path} belongs to another run")
        self.facts: dict[str, Any] = record["facts"]
        self._empty: dict[str, Any] = record["empty"]

    def read(self, example: Any) -> Checkpoint:
        """Returns the content; the JAX arrays of the example are read with their sharding.

        Raises:
          MismatchError: the carry and the example differ.
        """
        source = f"checkpoint {self.path}"
        check_match(self._shapes("carry"), example, source)
        examples = {name: key_data(leaf) for name, leaf in named_leaves(example).items()}
        shardings = {
            name: leaf.sharding for name, leaf in examples.items() if isinstance(leaf, jax.Array)
        }
        return self._content(rebuild(self._arrays("carry", shardings=shardings), example, source))

    def read_part(self, example: Any) -> Checkpoint:
        """Returns the content with those arrays of the carry that the example has.

        Raises:
          MismatchError: an array is missing or differs.
        """
        return self._content(self._part("carry", example))

    def read_best(self, example: Any) -> Any:
        """Returns arrays of the best evaluation or, if none were saved, of the carry.

        Raises:
          MismatchError: an array is missing or differs.
        """
        return self._part("best" if self._shapes("best") else "carry", example)

    def _content(self, carry: Any) -> Checkpoint:
        return Checkpoint(int(self.path.name), carry, self._arrays("best"), self.facts)

    def _part(self, item: str, example: Any) -> Any:
        arrays = self._arrays(item, names=named_leaves(example))
        return rebuild(arrays, example, f"checkpoint {self.path}")

    def _shapes(self, item: str) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shape and dtype of each array by name; a random key has its data's."""
        shapes = {
            name: jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))
            for name, (dtype, shape) in self._empty[item].items()
        }
        if (self.path / item).is_dir():
            metadata = _reader().metadata(self.path.absolute() / item).item_metadata
            if metadata is None:
                raise ValueError(f"{item} has no metadata")
            for name, array in metadata.tree.items():
                shapes[name] = jax.ShapeDtypeStruct(array.shape, array.dtype)
        return shapes

    def _arrays(
        self,
        item: str,
        *,
        names: Container[str] | None = None,
        shardings: Mapping[str, jax.sharding.Sharding] | None = None,
    ) -> dict[str, Any]:
        """Returns the arrays by name.

        Args:
          item: "carry" or "best".
          names: which to read; all by default.
          shardings: of the arrays that become JAX arrays; the others become NumPy arrays.
        """
        shapes = {n: s for n, s in self._shapes(item).items() if names is None or n in names}
        stored = {name: shape for name, shape in shapes.items() if shape.size}
        arrays: dict[str, Any] = {
            name: np.zeros(shape.shape, shape.dtype)
            for name, shape in shapes.items()
            if not shape.size
        }
        if stored:
            args = {
                name: ocp.ArrayRestoreArgs(
                    sharding=shardings[name], global_shape=shape.shape, dtype=shape.dtype
                )
                if shardings and name in shardings
                else ocp.RestoreArgs(restore_type=np.ndarray)
                for name, shape in stored.items()
            }
            restore = ocp.args.PyTreeRestore(stored, restore_args=args, partial_restore=True)
            arrays |= _reader().restore(self.path.absolute() / item, args=restore)
        return arrays


def _reader() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
