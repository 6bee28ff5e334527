"""Arrays that are sharded over devices: how a transformation's state is sharded, and what to avoid.

A sum over all coordinates costs one small message between devices. Reading a few coordinates costs
one if they are gathered by index, since each device contributes what it has and the results are
added. Reshaping, slicing and looping over blocks of an array would gather the whole array instead.
"""

from typing import Any

import jax
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdescent import validation


def is_sharded(array: Any) -> bool:
    """True if the array's type shards an axis over devices, as with explicit axes of a mesh."""
    return any(axis is not None for axis in jax.typeof(array).sharding.spec)


def may_be_partitioned(*arrays: Any) -> bool:
    """True if the compiler may divide the arrays of this program among several devices.

    Under automatic axes the types do not tell, and the answer depends on the number of devices.
    Under `shard_map` arrays belong to one device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.are_all_axes_manual:
        return False
    return several_devices() or any(map(is_sharded, arrays))


def several_devices() -> bool:
    """True if a program without types that tell otherwise may run on more than one device."""
    return jax.device_count() > 1


def at(array: jax.Array, positions: np.ndarray) -> jax.Array:
    """Returns the numbers at some positions of the flat array, [positions], on every device."""
    indices = np.unravel_index(positions, array.shape)
    if is_sharded(array):
        return array.at[indices].get(out_sharding=PartitionSpec(None))
    return array[indices]


def whole(array: Any) -> Any:
    """Returns an array of which this process can read all; all processes must ask for it."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
        return array
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        data: Any = whole(jax.random.key_data(array))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    return multihost_utils.process_allgather(array, tiled=True)


def state_shardings(tx: optax.GradientTransformation, params: Any) -> Any:
    """Returns how the state of a transformation is sharded if it follows its parameters.

    `tx.init` is traced with the shardings of the parameters as part of their types; the types of
    its results tell how each array of the state is sharded. This works for any transformation:
    towers, `jd.self_tuning`, chains, or your own. Arrays that do not follow a parameter, such as
    counts, are replicated.

    Args:
      tx: the transformation.
      params: a tree of arrays or `jax.ShapeDtypeStruct`s with a `NamedSharding` each, all on one
        mesh.

    Returns:
      A tree like the state, with a `NamedSharding` in place of each array; for `out_shardings` of
      `jax.jit(tx.init)`, or for `jax.device_put` and checkpoints.

    Raises:
      TypeError: `tx` is not a transformation, or a parameter has no `NamedSharding`.
      ValueError: the parameters are on different meshes, or there are none.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> mesh = jax.make_mesh((1,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
      >>> rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))
      >>> params = jax.device_put({"w": jnp.ones((8, 2))}, rows)
      >>> tx = jd.hypergradient(optax.adam, optax.adam(0.1), tune={"learning_rate": 1e-3})
      >>> shardings = jd.state_shardings(tx, params)
      >>> shardings.previous.new_state[0].mu["w"].is_equivalent_to(rows, ndim=2)
      True
      >>> state = jax.jit(tx.init, out_shardings=shardings)(params)
    """
    tx = validation.transformation("tx", tx)
    meshes: dict[Mesh, None] = {}
    for leaf in jax.tree.leaves(params):
        found = getattr(leaf, "sharding", None)
        if not isinstance(found, NamedSharding) or not isinstance(found.mesh, Mesh):
            raise TypeError(f"params must have a NamedSharding in each leaf, got {found!r}")
        meshes[found.mesh] = None
    if len(meshes) != 1:
        raise ValueError(f"params must be on one mesh, got {len(meshes)} meshes")
    (mesh,) = meshes
    explicit = mesh.abstract_mesh.update(axis_types=(AxisType.Explicit,) * len(mesh.axis_names))

    def typed(leaf: Any) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(explicit, leaf.sharding.spec)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    with jax.sharding.use_abstract_mesh(explicit):
        state = jax.eval_shape(tx.init, jax.tree.map(typed, params))

    def on_mesh(leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, leaf.sharding.spec if leaf.sharding else PartitionSpec())

    return jax.tree.map(on_mesh, state)
