"""Hypergradient descent: an optimizer whose hyperparameters are trained by an optimizer.

Write U(g, s, x; h) for an optimizer's update from gradient g, state s and parameters x
with hyperparameters h, and V for the optimizer that trains h. At step t, with g = g_t:

    G   = (dU/dh)^T g           U at the inputs of step t-1, held constant
    h   <- V(G, ...; h)         V may be a tower itself: its own hyperparameters move first
    x   <- x + U(g, s_t, x; h)

So hyperparameters are updated from the top of the tower down, and there is no second pass through
the model. In the first step there is no previous update, so G = 0; V makes a step nevertheless.

In addition to h and the state of V, the state of a tower holds the arrays that dU/dh needs. Their
size does not grow with the number of hyperparameters or the height of the tower:

- Fused method, for updates U that are coordinate-wise. If the current state s_t does not depend on
  h: s_t, and at most the last gradient and parameters; for the learning rate of Adam, s_t alone. If
  s_t depends on h, as on a beta: the same inputs as the general method.
- General method, for any other U: all *inputs* of the last update, including the state before it.
  Evaluating U at those inputs gives both dU/dh and the current state s_t.

`has_previous` is True if there is a last update to differentiate. It is False at the start and
after a batch that was skipped because its gradient was not finite; the stored inner state is then
the current state.

Source: K. Chandra, A. Xie, J. Ragan-Kelley, E. Meijer, "Gradient Descent: The Ultimate
Optimizer", NeurIPS 2022, arXiv:1909.13371.
"""

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdescent import containers, validation
from jaxdescent.eager_calls import compile_eager_calls
from jaxdescent.numerics import all_finite, all_true, is_inexact
from jaxdescent.towers import applied, spaces
from jaxdescent.towers.factory import Factory, cast_like, strong
from jaxdescent.towers.replay.conditional import computed_once, on_cpu
from jaxdescent.towers.replay.contraction import empty_traces
from jaxdescent.towers.replay.tracing import UpdateRecord
from jaxdescent.towers.signals import EligibilityTrace, OneStep, one_step
from jaxdescent.towers.spec import Spec, check_hyper_optimizer, make_spec


class HypergradientState(NamedTuple):
    """State of a tower.

    Attributes:
      hyperparams: the hyperparameters, as coordinates in their spaces. Read them with
        `jd.get_hyperparams`; `optax.tree.get` would find each name twice.
      hyper_state: the state of the optimizer that trains them.
      previous: the record of the last update, from which it is differentiated.
      has_previous: bool[], True if the last batch was used. False at the start and after a skipped
        batch; `previous` then serves only to hold the current inner state.
      skipped: i32[], number of batches that were skipped.
      masked: i32[], number of steps whose hypergradient had non-finite terms, which were left
        out.
      rejected: i32[], number of hyperparameter updates that were undone because a
        hyperparameter or the hyper-optimizer's state became non-finite.
      altered: i32[], number of updates that were not applied as they were returned, because
        another transformation follows the tower or the training loop changed the parameters.
      hypergradient: the hypergradient used in the last step; zero if the hyperparameters did not
        change.
      sample: the parameters before the last update at a few coordinates of each leaf.
      traces: for each tuned name a tree like the parameters, if the signal is
        `jd.eligibility_trace`; otherwise ().
    """

    hyperparams: dict[str, Any]
    hyper_state: Any
    previous: UpdateRecord
    has_previous: jax.Array
    skipped: jax.Array
    masked: jax.Array
    rejected: jax.Array
    altered: jax.Array
    hypergradient: dict[str, Any]
    sample: jax.Array
    traces: Any = ()


class Tower(optax.GradientTransformationExtraArgs):
    """The transformation that `hypergradient` returns.

    Attributes:
      spec: the analyzed arguments of `hypergradient`.
      hyper_optimizer: the transformation that trains the hyperparameters.
    """

    spec: Spec
    hyper_optimizer: optax.GradientTransformationExtraArgs

    def _replace(self, **functions: Any) -> "Tower":
        replaced = super()._replace(**functions)
        replaced.spec, replaced.hyper_optimizer = self.spec, self.hyper_optimizer
        return replaced


class Wrapper(optax.GradientTransformationExtraArgs):
    """A transformation around another one, in which `innermost` finds a tower.

    Attributes:
      inner: the transformation inside.
    """

    inner: optax.GradientTransformationExtraArgs


def wrapper(
    inner: optax.GradientTransformationExtraArgs,
    init: optax.TransformInitFn,
    update: optax.TransformUpdateExtraArgsFn,
) -> Wrapper:
    """Returns a transformation that is known to hold `inner`."""
    tx = Wrapper(init, update)
    tx.inner = inner
    return tx


def innermost(tx: Any) -> Any:
    """Returns the transformation that is not a `Wrapper`, inside of one or as it is."""
    while isinstance(tx, Wrapper):
        tx = tx.inner
    return tx


def hypergradient(
    factory: Factory,
    hyper_optimizer: optax.GradientTransformation,
    /,
    *,
    tune: Mapping[str, Any],
    signal: OneStep | EligibilityTrace | None = None,
    extra_args: Mapping[str, Any] | None = None,
    method: str = "auto",
) -> Tower:
    """Returns an optimizer that learns its own hyperparameters during training.

    Args:
      factory: a callable that takes the tuned names as keywords and returns an optax
        transformation: an alias such as `optax.adam`, a `functools.partial` of an alias, or a
        function that builds a chain. Put clipping, momentum, decay and schedules inside the
        factory, so that the hypergradient sees the update that is applied. Steps that differ from
        the update, because of a transformation after the tower or a projection in the training
        loop, are detected at a few coordinates of the parameters and counted in `state.altered`;
        hyperparameters then learn from the step that was made, or not at all where it is more than
        100 times shorter or longer than the update.
      hyper_optimizer: any transformation. It trains the coordinates of the hyperparameters. If it
        is itself a tower, the result is a tower of more levels.
      tune: the initial values of the tuned hyperparameters, by name. Each is a number wrapped in
        its space, by `jd.positive`, `jd.unit_interval`, `jd.unconstrained` or `jd.per_leaf`; or a
        bare number, whose space follows from its name in optax (positive for `learning_rate`,
        `weight_decay`, `eps` and the like; unit interval for `b1`, `b2`, `decay`, `momentum` and
        the like).
      signal: the effect on the loss that trains the hyperparameters: the effect of the last update,
        `jd.one_step()` (the default), or of all past updates, `jd.eligibility_trace(decay)`.
      extra_args: examples (arrays or `jax.ShapeDtypeStruct`) of the array keywords that the
        factory's update may read, in addition to `value`, a scalar. Keywords that it reads are
        stored from step to step, and must be passed to every `update`. `{"value": None}` declares
        that `value` is never passed.
      method: how the update is differentiated, which determines what the state holds. "general"
        works for any update: it runs the last update again at its own inputs. "fused" works for
        coordinate-wise updates: it sums the hypergradient in one pass over the buffers and stores
        only what it needs, nothing for the learning rate of adam or momentum. "auto" is "fused" if
        possible, otherwise "general".

    Returns:
      A transformation. Its `update(grads, state, params, *, outer_grads=None, skip=None,
      **extra)` trains the hyperparameters on `outer_grads`, such as the gradient of a validation
      batch, in place of `grads`. If `skip` is True, the batch is skipped like a batch with a
      non-finite gradient. `value` is also passed to the hyper-optimizer. Gradients are stored in
      the parameters' dtypes. Hyperparameters are float32, or float64 if a parameter is;
      computations with bf16 and fp16 arrays use float32.

    Raises:
      TypeError: an argument is of the wrong type.
      ValueError: an initial value is out of range; a name is unknown, or fixed in a partial; the
        factory rejects its keywords, branches in Python on a tuned value, or calls the model (as
        line searches do), which cannot be repeated later; the hyper-optimizer calls a loss; the
        method is unknown, or "fused" for an update that mixes coordinates.

    Warns:
      UserWarning: a hyperparameter has no effect on the update of the same step (such as `b2`
        of lion), so that it cannot be learned from one step.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> tx = jd.hypergradient(optax.adam, optax.adam(0.1), tune={"learning_rate": 1e-5})
      >>> loss = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> def step(carry, _):
      ...     x, state = carry
      ...     updates, state = tx.update(jax.grad(loss)(x), state, x)
      ...     return (optax.apply_updates(x, updates), state), None
      >>> x = jnp.zeros(4)
      >>> (x, state), _ = jax.lax.scan(step, (x, tx.init(x)), length=300)
      >>> bool(loss(x) < 1e-3), bool(jd.get_hyperparams(state)[0]["learning_rate"] > 1e-2)
      (True, True)
    """
    hyper_optimizer = validation.transformation("hyper_optimizer", hyper_optimizer)
    signal = one_step() if signal is None else signal
    spec = make_spec(factory, tune, signal, extra_args, method)
    if not isinstance(hyper_optimizer, Tower):  # towers were checked when they were made
        check_hyper_optimizer(hyper_optimizer, spec.starts)
    for name in spec.without_effect:
        warnings.warn(
            f"tune[{name!r}] has no effect on the update of the same step: it cannot be learned "
            "from one step, and it will keep its initial value",
            stacklevel=2,
        )

    def init(params: Any) -> HypergradientState:
        validation.check_arrays("params", params)
        previous = spec.first_record(params)

        def copy_hyperparams() -> Any:
            return jax.tree.map(jnp.copy, previous.hyperparams)

        def zero(dtype: Any) -> jax.Array:
            return jnp.zeros((), dtype)

        traced = isinstance(spec.signal, EligibilityTrace)
        return HypergradientState(  # No two leaves share a buffer: the state can be donated.
            hyperparams=copy_hyperparams(),
            hyper_state=jax.tree.map(strong, hyper_optimizer.init(copy_hyperparams())),
            hypergradient=jax.tree.map(jnp.zeros_like, previous.hyperparams),
            previous=previous,
            has_previous=zero(bool),
            skipped=zero(jnp.int32),
            masked=zero(jnp.int32),
            rejected=zero(jnp.int32),
            altered=zero(jnp.int32),
            sample=applied.first_sample(params),
            traces=empty_traces(copy_hyperparams(), params) if traced else (),
        )

    @compile_eager_calls
    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        outer_grads: Any = None,
        skip: Any = None,
        **extra_args: Any,
    ) -> tuple[Any, HypergradientState]:
        params = containers.params_like(params, updates)
        previous, has_previous = state.previous, state.has_previous
        present, last = spec.current_and_last(previous, updates, params, extra_args)
        if outer_grads is not None:
            validation.shaped_like("outer_grads", outer_grads, present.grads)
            outer_grads = cast_like(outer_grads, present.grads)
        outer = present.grads if outer_grads is None else outer_grads
        if isinstance(spec.signal, EligibilityTrace):
            replayed: Any = last
            found, traces = replayed.contract_traces(
                state.traces, spec.signal.decay, outer, has_previous
            )
            finite = all_finite(present.grads)
        else:
            (found, finite), traces = last.contract(outer, has_previous), ()
        if outer_grads is not None:
            finite = all_finite(present.grads)
        # A conditional: otherwise XLA copies the parameters, to read them again after the update.
        now = applied.coordinates_of_params(params, updates)
        u, g = last.sample(), applied.coordinates(outer)

        def compare() -> tuple[jax.Array, jax.Array, jax.Array]:
            return *applied.factor(state.sample, now, u, g, applied.rounding_of(params)), now

        def first() -> tuple[jax.Array, jax.Array, jax.Array]:
            return jnp.zeros((), bool), jnp.ones((), now.dtype), now

        altered, factor, now = jax.lax.cond(has_previous | ~on_cpu(), compare, first)
        hypergradient = jax.tree.map(lambda g: factor.astype(g.dtype) * g, found.hypergradient)
        # The hypergradient is always finite. But XLA copies a donated buffer that is read here,
        # unless the value that overwrites the buffer depends on what was computed from it.
        usable = finite & all_finite((present.extra_args, hypergradient))
        if skip is not None:
            usable &= ~validation.scalar_boolean("skip", skip)
        usable = computed_once(usable)
        hyperparams, hyper_state, rejected = _move_if_usable(
            usable, hyper_optimizer, hypergradient, state, extra_args
        )
        tx = spec.build(hyperparams)
        ready = has_previous & all_finite(hypergradient)
        present = present._replace(hyperparams=hyperparams)
        step = last.step(tx, present, extra_args, ready=ready, usable=usable)

        zeros = jax.tree.map(jnp.zeros_like, hypergradient)
        moved = HypergradientState(
            hyperparams=hyperparams,
            hyper_state=hyper_state,
            hypergradient=optax.tree.where(rejected, zeros, hypergradient),
            previous=step.record,
            has_previous=jnp.ones((), bool),
            skipped=state.skipped,
            masked=jnp.where(found.masked, _increment(state.masked), state.masked),
            rejected=jnp.where(rejected, _increment(state.rejected), state.rejected),
            altered=jnp.where(has_previous & altered, _increment(state.altered), state.altered),
            sample=now,
            traces=traces,
        )
        skipped = state._replace(
            hyperparams=hyperparams,  # unchanged
            hyper_state=hyper_state,
            hypergradient=zeros,
            previous=step.skipped_record,
            traces=traces,
            has_previous=jnp.zeros((), bool),
            skipped=_increment(state.skipped),
        )
        still = jax.tree.map(jnp.zeros_like, step.updates)
        select = partial(optax.tree.where, usable)
        return select(step.updates, still), select(moved, skipped)

    tower = Tower(init, update)
    tower.spec, tower.hyper_optimizer = spec, hyper_optimizer
    return tower


def _move_if_usable(usable: jax.Array, *args: Any) -> tuple[dict[str, Any], Any, jax.Array]:
    """Returns the result of `_move_hyperparams`, which moves nothing where a batch is not usable.

    The conditional is for speed: on a CPU XLA otherwise duplicates the computation in each of its
    many uses. Under `shard_map` the devices may disagree, and the move may need all of them.
    """
    if jax.sharding.get_abstract_mesh().manual_axes:
        return _move_hyperparams(usable, *args)
    state: HypergradientState = args[2]
    cpu = on_cpu()

    def move() -> Any:
        return _move_hyperparams(usable | cpu, *args)

    def stay() -> Any:
        return state.hyperparams, state.hyper_state, jnp.zeros((), bool)

    return jax.lax.cond(usable | ~cpu, move, stay)


def _move_hyperparams(
    usable: jax.Array,
    hyper_optimizer: optax.GradientTransformationExtraArgs,
    hypergradient: dict[str, Any],
    state: HypergradientState,
    extra_args: Mapping[str, Any],
) -> tuple[dict[str, Any], Any, jax.Array]:
    """Makes a step of the hyper-optimizer, undone where not usable or its result not finite.

    Returns:
      The hyperparameters, the state of the hyper-optimizer, and bool[], True if the result was not
      finite.
    """
    passed_on = {name: extra_args[name] for name in ("value",) if name in extra_args}
    changes, hyper_state = hyper_optimizer.update(
        hypergradient, state.hyper_state, state.hyperparams, **passed_on
    )
    hyper_state = cast_like(hyper_state, state.hyper_state)
    hyperparams: Any = optax.apply_updates(state.hyperparams, changes)
    spoiled = ~all_finite(hyperparams) | ~_stayed_finite(state.hyper_state, hyper_state)
    hyperparams = {name: spaces.clamp(node) for name, node in hyperparams.items()}
    old, new = (state.hyperparams, state.hyper_state), (hyperparams, hyper_state)
    return *optax.tree.where(usable & ~spoiled, new, old), spoiled


def _stayed_finite(before: Any, after: Any) -> jax.Array:
    """Returns bool[], True if no finite number became infinite or NaN.

    Some states hold infinities by design, which do not count.
    """
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return all_true(
        [jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old)) for old, new in pairs if is_inexact(old)]
    )


def _increment(count: jax.Array) -> jax.Array:
    return jnp.asarray(optax.safe_increment(count))
