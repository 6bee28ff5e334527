"""The registry of transformations. A new transformation joins all invariants by one row.

A row is a factory, whose keywords are numbers, and the numbers. With them the transformation must
solve optax's own test targets, such as Rosenbrock's function, within 30,000 steps.
"""

import jax
import jax.numpy as jnp
import optax

import jaxdescent as jd


def tower_of_adam(learning_rate, hyper_rate):
    tune = {"learning_rate": jd.positive(learning_rate), "b1": 0.9, "b2": 0.999}
    return jd.hypergradient(optax.adam, optax.sgd(hyper_rate), tune=tune)


def tower_of_momentum(learning_rate, hyper_rate):
    def factory(learning_rate):
        return optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(learning_rate, momentum=0.9))

    tune = {"learning_rate": jd.positive(learning_rate)}
    return jd.hypergradient(factory, optax.adam(hyper_rate), tune=tune)


def tower_of_adamw_per_leaf(learning_rate, hyper_rate):
    tune = {"learning_rate": jd.per_leaf(jd.positive(learning_rate)), "weight_decay": 1e-6}
    return jd.hypergradient(optax.adamw, optax.sgd(hyper_rate), tune=tune)


def tower_of_height_3(learning_rate, hyper_rate):
    middle = jd.hypergradient(
        optax.adam, optax.sgd(hyper_rate), tune={"learning_rate": jd.positive(hyper_rate)}
    )
    lower = jd.hypergradient(optax.adam, middle, tune={"learning_rate": jd.positive(hyper_rate)})
    return jd.hypergradient(optax.adam, lower, tune={"learning_rate": jd.positive(learning_rate)})


def self_tuning_adam(learning_rate):
    """Without the range test, whose last steps are so long that rounding errors grow."""
    tx = jd.self_tuning(optax.adam)

    def init(params):
        return jd.set_hyperparams(tx.init(params), {"learning_rate": learning_rate})

    return tx._replace(init=init)


def averaged_momentum(learning_rate):
    momentum = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(learning_rate, momentum=0.9))
    return jd.with_average(momentum)


def restarted_tower(learning_rate, hyper_rate):
    return jd.restart_on_divergence(tower_of_momentum(learning_rate, hyper_rate))


def restarted_momentum(learning_rate):
    """Not adam, which optax itself cannot run in float16: its second moments become zero."""
    momentum = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(learning_rate, momentum=0.9))
    return jd.restart_on_divergence(momentum)


def step_over_loss(learning_rate, max_learning_rate):
    return jd.step_sizes.step_over_loss(
        learning_rate, loss="exponential", max_learning_rate=max_learning_rate
    )


def catapult_warmup_of_momentum(learning_rate, start):
    momentum = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0, momentum=0.9))
    return jd.step_sizes.catapult_warmup(momentum, learning_rate, steps=20, start=start)


def guarded_silver(smoothness):
    """With a smoothness large enough that no batch contradicts it in half precision."""
    return jd.step_sizes.guarded(jd.step_sizes.silver(1.0), smoothness)


def magd_of_one_agent(learning_rate):
    """Treats the parameters as one agent, so that any training loop can use it."""
    momentum = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(learning_rate, momentum=0.9))
    tx = jd.magd(momentum, jd.pruning.successive_halving(), steps_per_rung=10)

    def add_axis(leaf):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype)
        return leaf[None]

    def one_agent(tree):
        return jax.tree.map(add_axis, tree)

    def update(updates, state, params=None, *, value, **extra):
        params = None if params is None else one_agent(params)
        value = jnp.asarray(value, state.best_values.dtype)[None]
        updates, state = tx.update(one_agent(updates), state, params, value=value, **extra)
        return jax.tree.map(lambda x: x[0], updates), state

    return optax.GradientTransformationExtraArgs(lambda p: tx.init(one_agent(p)), update)


def monitored_momentum(learning_rate):
    """Monitors a quadratic instead of the loss; the updates do not depend on it."""
    momentum = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(learning_rate, momentum=0.9))

    def quadratic(params, batch):
        return optax.tree.norm(params, squared=True)

    threshold = jd.thresholds.sgd(learning_rate, 0.9)
    return jd.monitor_stability(
        momentum, quadratic, threshold, every=100, log_size=2, num_steps=1, max_restarts=0
    )


def constant_gradient_descent(step_size):
    """With the constant step size of a known horizon."""
    return jd.streaming.online_gradient_descent(step_size, 1.0, horizon=1.0)


def ader_of_known_horizon(diameter, gradient_bound):
    return jd.streaming.ader(diameter, gradient_bound, horizon=1_000)


def predicting_the_loss(tx, error_of):
    """Trains by a learner that takes the error of a prediction; here the loss is the prediction."""

    def update(updates, state, params=None, *, value, **extra):
        return tx.update(updates, state, params, error=error_of(value), **extra)

    return tx._replace(update=update)


def obgd_of_the_loss(learning_rate):
    """With a constant error, so that it is gradient descent with bounded steps."""
    return predicting_the_loss(jd.streaming.obgd(learning_rate), lambda value: -1.0)


def intentional_of_the_loss(learning_rate):
    """Moves the loss toward 0, the minimum of optax's test targets."""
    return predicting_the_loss(jd.streaming.intentional(learning_rate), lambda value: -value)


def swift_td_of_the_loss(learning_rate, meta_learning_rate):
    tx = jd.streaming.swift_td(learning_rate, meta_learning_rate=meta_learning_rate)
    return predicting_the_loss(tx, lambda value: -1.0)


def natural_gradient_of_a_product(learning_rate):
    """With the metric of independent rotations of qubits, a quarter of the identity.

    The damping is constant: an adapted one rejects steps by differences of single batches.
    """

    def metric(params):
        return 0.25 * jnp.eye(sum(x.size for x in jax.tree.leaves(params)))

    momentum = optax.sgd(learning_rate, momentum=0.9)
    natural = jd.quantum.quantum_natural_gradient(metric, 0.25, levenberg=False)
    return optax.chain(optax.clip_by_global_norm(1.0), natural, optax.scale(-1.0), momentum)


TRANSFORMATIONS = {
    "tower of adam": (tower_of_adam, {"learning_rate": 1e-2, "hyper_rate": 1e-4}),
    "tower of momentum": (tower_of_momentum, {"learning_rate": 1e-4, "hyper_rate": 1e-3}),
    "tower of adamw per leaf": (
        tower_of_adamw_per_leaf,
        {"learning_rate": 1e-2, "hyper_rate": 1e-4},
    ),
    "self-tuning adam": (self_tuning_adam, {"learning_rate": 1e-3}),
    "averaged momentum": (averaged_momentum, {"learning_rate": 1e-3}),
    "restarted tower of momentum": (
        restarted_tower,
        {"learning_rate": 1e-4, "hyper_rate": 1e-3},
    ),
    "restarted momentum": (restarted_momentum, {"learning_rate": 1e-3}),
    "step over loss": (step_over_loss, {"learning_rate": 1e-2, "max_learning_rate": 1e-3}),
    "catapult warmup of momentum": (
        catapult_warmup_of_momentum,
        {"learning_rate": 1e-3, "start": 2e-4},
    ),
    "guarded silver": (guarded_silver, {"smoothness": 1e3}),
    "monitored momentum": (monitored_momentum, {"learning_rate": 1e-3}),
    "magd of one agent": (magd_of_one_agent, {"learning_rate": 1e-3}),
    "online gradient descent": (constant_gradient_descent, {"step_size": 1e-3}),
    "adagrad norm": (jd.streaming.adagrad_norm, {"learning_rate": 1.0, "offset": 1.0}),
    "ftrl proximal": (jd.streaming.ftrl_proximal, {"learning_rate": 0.5}),
    "coin betting": (jd.streaming.coin_betting, {"gradient_bound": 10.0}),
    "ader": (ader_of_known_horizon, {"diameter": 40.0, "gradient_bound": 4e4}),
    "obgd": (obgd_of_the_loss, {"learning_rate": 1e-3}),
    "intentional": (intentional_of_the_loss, {"learning_rate": 0.5}),
    "swift td": (swift_td_of_the_loss, {"learning_rate": 1e-3, "meta_learning_rate": 1e-4}),
    "quantum natural gradient": (natural_gradient_of_a_product, {"learning_rate": 1e-3}),
    "tower of height 3": (tower_of_height_3, {"learning_rate": 1e-2, "hyper_rate": 1e-3}),
}

PROBES = {"monitored momentum", "quantum natural gradient"}
"""Names of transformations that compute Hessian products at intervals, or products by a metric."""

OSCILLATING = {"coin betting"}
"""Names of transformations whose losses have a small mean, but whose last parameters oscillate."""

SCALAR_STATES = {"online gradient descent", "adagrad norm"}
"""Names of transformations whose state has no tree like the parameters."""


def make(name):
    """Returns the transformation of a row."""
    factory, numbers = TRANSFORMATIONS[name]
    return factory(**numbers)
