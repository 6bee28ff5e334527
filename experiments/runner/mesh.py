"""Divides the arrays of a training run among devices: a mesh with named axes.

agents   the networks that are trained side by side, of --agents or --seeds
data     the examples of a batch
fsdp     the examples of a batch, too, and the parameters with all that has their shapes

The compiler divides the work and inserts the communication. Each array that it is given has a
sharding; all others follow. The axes are automatic in the sense of `jax.sharding.AxisType`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxdescent as jd

AXES = ("agents", "data", "fsdp")
SMALLEST_SHARDED = 1_024
"""Numbers of a parameter from which it is sharded over fsdp."""


class Mesh(NamedTuple):
    """A mesh of devices, and the shardings of what a training run holds.

    Attributes:
      devices: the mesh.
    """

    devices: jax.sharding.Mesh

    def sharding(self, *spec: Any) -> NamedSharding:
        """Returns a sharding with the axes of the specification that the mesh has."""
        return NamedSharding(self.devices, PartitionSpec(*map(self._present, spec)))

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of an array that all devices hold."""
        return self.sharding()

    @property
    def feed(self) -> NamedSharding:
        """The sharding of what a chunk is fed, [steps, networks, batch, ...]."""
        return self.sharding(None, "agents", ("data", "fsdp"))

    def divided_batch(self, batch: jax.Array) -> jax.Array:
        """Returns a batch in a compiled program, divided among the devices of data and fsdp."""
        if self.size("data", "fsdp") == 1:
            return batch
        sharding = self.sharding(("data", "fsdp"))
        if jax.sharding.get_abstract_mesh().empty:
            return jax.lax.with_sharding_constraint(batch, sharding)
        return jax.lax.with_sharding_constraint(batch, sharding.spec)  # under `shard_map`

    def size(self, *axes: str) -> int:
        """Returns the product of the sizes of axes, of which the mesh may lack some."""
        return math.prod(self.devices.shape.get(axis, 1) for axis in axes)

    def typed(self, shapes: Any, tx: optax.GradientTransformation) -> Any:
        """Returns the shapes of a `TrainState` with shardings.

        Parameters are sharded along their longest axis that fsdp divides, and the optimizer's state
        like its parameters.

        Args:
          shapes: of the state of several networks.
          tx: the optimizer.
        """

        def of_one(leaf: Any) -> Any:
            return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=self.replicated)

        one = jax.tree.map(of_one, shapes)
        params = jax.tree.map(self._sharded, one.params)
        specs = jax.tree.map(lambda leaf: leaf.sharding.spec, one._replace(params=params))
        states = jax.tree.map(lambda s: s.spec, jd.state_shardings(tx, params))
        return jax.tree.map(
            lambda shape, spec: jax.ShapeDtypeStruct(
                shape.shape, shape.dtype, sharding=self.sharding("agents", *spec)
            ),
            shapes,
            specs._replace(opt_state=states),
        )

    def _sharded(self, leaf: Any) -> Any:
        """Returns the shape of a parameter with the sharding that fsdp gives it."""
        devices = self.size("fsdp")
        divided = [i for i, length in enumerate(leaf.shape) if length % devices == 0]
        if devices == 1 or math.prod(leaf.shape) < SMALLEST_SHARDED or not divided:
            return leaf
        longest = max(divided, key=lambda i: leaf.shape[i])
        spec = ["fsdp" if i == longest else None for i in range(len(leaf.shape))]
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.sharding(*spec))

    def _present(self, axes: Any) -> Any:
        if axes is None or isinstance(axes, str):
            return axes if axes in self.devices.axis_names else None
        return tuple(axis for axis in axes if axis in self.devices.axis_names) or None


def parse_mesh(text: str, allowed: Sequence[str] = AXES) -> dict[str, int]:
    """Returns the sizes of the axes in a text like `agents=4,data=2`.

    Args:
      text: the value of `--mesh`.
      allowed: the axes that it may have.

    Raises:
      ValueError: an axis is unknown or repeated, or a size is not a positive integer.

    Example:
      >>> parse_mesh("agents=4,data=2")
      {'agents': 4, 'data': 2}
    """
    form = f"AXIS=SIZE,... with axes of {', '.join(allowed)}"
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, equals, size = (word.strip() for word in part.partition("="))
        if not equals or not size.isdecimal() or not int(size):
            raise ValueError(f"--mesh must be {form}, such as {allowed[0]}=2, got {text!r}")
        if name not in allowed:
            raise ValueError(
                f"--mesh must be {form}, such as {allowed[0]}=2, got the axis {name!r}"
            )
        if name in sizes:
            raise ValueError(f"--mesh must have each axis once, got {name} twice in {text!r}")
        sizes[name] = int(size)
    return sizes


def make_mesh(sizes: Mapping[str, int]) -> Mesh:
    """Returns the mesh over all devices of all processes.

    Raises:
      ValueError: the sizes do not multiply to the number of devices.
    """
    size, found = math.prod(sizes.values()), jax.device_count()
    if size != found:
        product = " x ".join(map(str, sizes.values()))
        advice = (
            f"; XLA_FLAGS=--xla_force_host_platform_device_count={size} makes as many of one CPU"
            if jax.default_backend() == "cpu" and jax.process_count() == 1
            else ""
        )
        raise ValueError(
            f"--mesh must have as many devices as there are, {found}, got {product} = {size}; "
            f"set --mesh, such as {next(iter(sizes))}={found}"
            f"{advice}"
        )
    types = (AxisType.Auto,) * len(sizes)
    return Mesh(jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=types))
