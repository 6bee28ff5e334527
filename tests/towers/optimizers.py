"""Every public optimizer of optax and optax.contrib, with what a tower can tune of it."""

from functools import partial

import optax
from optax import contrib

import jaxdescent as jd

LEARNED = jd.unit_interval


def chained_plateau(learning_rate, b1):
    return optax.chain(
        optax.adam(learning_rate, b1), contrib.reduce_on_plateau(patience=20, min_scale=0.1)
    )


def l2_then(optimizer, weight_decay, **hyperparams):
    return optax.chain(optax.add_decayed_weights(weight_decay), optimizer(**hyperparams))


def clipped(learning_rate, max_norm):
    return optax.chain(optax.clip_by_global_norm(max_norm), optax.adam(learning_rate))


ADAM = {"learning_rate": 1e-2, "b1": 0.9, "b2": 0.99, "eps": 1e-8}
# name: (factory, what is tuned)
OPTIMIZERS = {
    "adabelief": (optax.adabelief, ADAM),
    "adadelta": (optax.adadelta, {"learning_rate": 1.0, "rho": LEARNED(0.9), "eps": 1e-6}),
    "adafactor": (
        partial(optax.adafactor, min_dim_size_to_factor=2, momentum=0.9, weight_decay_rate=1e-3),
        {"learning_rate": 1e-2, "decay_rate": 0.8},
    ),
    "adagrad": (optax.adagrad, {"learning_rate": 1e-1, "eps": 1e-7}),
    "adam": (optax.adam, ADAM),
    "adamax": (optax.adamax, {"learning_rate": 1e-2, "b1": 0.9, "b2": 0.99}),
    "adamaxw": (optax.adamaxw, {"learning_rate": 1e-2, "b1": 0.9, "weight_decay": 1e-2}),
    "adamw": (optax.adamw, {**ADAM, "weight_decay": 1e-2}),
    "adan": (optax.adan, {"learning_rate": 1e-2, "b1": 0.9, "b2": 0.9, "b3": 0.99}),
    "amsgrad": (optax.amsgrad, ADAM),
    "fromage": (optax.fromage, {"learning_rate": 1e-2}),
    "lamb": (partial(optax.lamb, weight_decay=1e-2), {**ADAM, "eps": 1e-6}),
    "lars": (optax.lars, {"learning_rate": 1e-1, "weight_decay": 1e-2, "momentum": 0.9}),
    "lbfgs": (partial(optax.lbfgs, linesearch=None), {"learning_rate": 1e-2}),
    "lion": (optax.lion, {"learning_rate": 1e-3, "weight_decay": 1e-2}),
    "nadam": (optax.nadam, ADAM),
    "nadamw": (optax.nadamw, {**ADAM, "weight_decay": 1e-2}),
    "noisy_sgd": (
        partial(optax.noisy_sgd, key=0),
        {"learning_rate": 1e-2, "eta": jd.positive(1e-2), "gamma": jd.positive(0.55)},
    ),
    "novograd": (partial(optax.novograd, weight_decay=1e-2), {"learning_rate": 1e-2, "b1": 0.9}),
    "optimistic_adam_v2": (
        optax.optimistic_adam_v2,
        {
            "learning_rate": 1e-2,
            "b1": 0.9,
            "b2": 0.99,
            "alpha": jd.positive(1.0),
            "beta": jd.positive(1.0),
        },
    ),
    "optimistic_gradient_descent": (
        optax.optimistic_gradient_descent,
        {"learning_rate": 1e-2, "alpha": jd.positive(0.7), "beta": jd.positive(0.1)},
    ),
    "polyak_sgd": (
        partial(optax.polyak_sgd, f_min=-1.0),
        {"max_learning_rate": jd.positive(1.0), "scaling": jd.positive(0.1)},
    ),
    "radam": (optax.radam, ADAM),
    "rmsprop": (
        partial(optax.rmsprop, centered=True),
        {"learning_rate": 1e-2, "decay": 0.9, "momentum": 0.9},
    ),
    "rprop": (optax.rprop, {"learning_rate": 1e-3}),
    "sgd": (optax.sgd, {"learning_rate": 1e-2}),
    "sgd nesterov": (
        partial(optax.sgd, nesterov=True),
        {"learning_rate": 1e-2, "momentum": 0.9},
    ),
    "sign_sgd": (optax.sign_sgd, {"learning_rate": 1e-3}),
    "signum": (optax.signum, {"learning_rate": 1e-3}),
    "sm3": (optax.sm3, {"learning_rate": 1e-1, "momentum": 0.9}),
    "yogi": (optax.yogi, {"learning_rate": 1e-2, "b1": 0.9, "b2": 0.99}),
    "acprop": (contrib.acprop, ADAM),
    "ademamix": (contrib.ademamix, {"learning_rate": 1e-2, "b1": 0.9, "b2": 0.99, "b3": 0.999}),
    "simplified_ademamix": (
        contrib.simplified_ademamix,
        {"learning_rate": 1e-3, "b1": 0.9, "b2": 0.99},
    ),
    "adopt": (contrib.adopt, {"learning_rate": 1e-2, "b1": 0.9, "b2": 0.99}),
    "cocob": (contrib.cocob, {"weight_decay": 1e-3}),
    "dadapt_adamw": (contrib.dadapt_adamw, {"learning_rate": 1e-1, "weight_decay": 1e-3}),
    "dog": (contrib.dog, {"learning_rate": 1.0, "weight_decay": 1e-3}),
    "dowg": (contrib.dowg, {"learning_rate": 0.1, "weight_decay": 1e-3}),
    "galore": (partial(contrib.galore, rank=2), {"learning_rate": 1e-2, "weight_decay": 1e-3}),
    "madgrad": (contrib.madgrad, {"learning_rate": 1e-2, "momentum": 0.9}),
    "mechanize": (
        lambda weight_decay, s_init: contrib.mechanize(
            optax.sgd(1e-2), weight_decay=weight_decay, s_init=s_init
        ),
        {"weight_decay": 1e-2, "s_init": jd.positive(1e-6)},
    ),
    "momo": (contrib.momo, {"learning_rate": 1e-1}),
    "momo_adam": (contrib.momo_adam, {"learning_rate": 1e-2, "b1": 0.9, "b2": 0.99}),
    "muon": (contrib.muon, {"learning_rate": 1e-2, "weight_decay": 1e-2}),
    "prodigy": (
        partial(contrib.prodigy, estim_lr0=1e-2),
        {"learning_rate": 1.0, "weight_decay": 1e-2},
    ),
    "reduce_on_plateau": (chained_plateau, {"learning_rate": 1e-2, "b1": 0.9}),
    "sam": (
        lambda learning_rate, radius: contrib.sam(
            optax.sgd(learning_rate), optax.chain(contrib.normalize(), optax.sgd(radius))
        ),
        {"learning_rate": 1e-2, "radius": jd.positive(1e-2)},
    ),
    "schedule_free_adamw": (
        contrib.schedule_free_adamw,
        {"learning_rate": 1e-2, "b1": 0.9, "weight_decay": 1e-2},
    ),
    "schedule_free_sgd": (contrib.schedule_free_sgd, {"learning_rate": 1e-2, "b1": 0.9}),
    "L2 then momentum": (
        partial(l2_then, partial(optax.sgd, momentum=0.9)),
        {"weight_decay": 1e-1, "learning_rate": 1e-2},
    ),
    "L2 then adam": (partial(l2_then, optax.adam), {"weight_decay": 1e-1, "learning_rate": 1e-2}),
    "clip then adam": (clipped, {"learning_rate": 1e-2, "max_norm": jd.positive(1e-3)}),
}

# Public names without a row above, each with its reason.
EXEMPT = {
    "optimistic_adam": "deprecated in favor of optimistic_adam_v2, and says so",
    "dowg at rate 1": "chaotic: one rounding of a gradient moves it by 1e-5 within 100 steps",
    "lbfgs with a line search": "calls the model inside its update; refused",
    "sophia": "calls the model inside its update; refused",
    "dpsgd": "takes gradients per example, which are not shaped like the parameters",
    "schedule_free": "is the same as schedule_free_sgd and schedule_free_adamw",
    "differentially_private_aggregate": "is dpsgd without the rate",
    "split_real_and_imaginary": "has nothing to tune; tested with complex parameters",
    "normalize": "has nothing to tune; inside sam above",
}

# (optimizer, name): why one step has no signal for it; each warns.
WITHOUT_EFFECT = {
    ("rprop", "learning_rate"): "only the first step's size, which lies in the initial state",
    ("acprop", "b1"): "enters the state after the update is made",
    ("adopt", "b2"): "enters the state after the update is made",
}

# (optimizer, name): why it stops moving although its hypergradient is defined.
RESTS = {
    ("amsgrad", "b2"): "acts only where v reaches a new maximum, which becomes rare",
    ("lbfgs", "learning_rate"): "with a fresh batch a step it stops moving, as plain L-BFGS does",
}
