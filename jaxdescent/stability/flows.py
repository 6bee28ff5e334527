"""Flows: smooth paths that an optimizer's iterates follow, at the edge of stability too.

Which optimizer, with optax's arguments:

    sgd, rmsprop, adam     jd.central_flow(loss_fn, params, batch, jd.flows.adam(1e-3), steps=9)

and the flow itself, a unit of time per call, for loops of your own:

    central, gradient      state, info = jd.flows.central(loss_fn, optimizer).step(state, batch)
"""

from jaxdescent.stability.central_flow import central as central
from jaxdescent.stability.gradient_flow import gradient as gradient
from jaxdescent.stability.optimizers import adam as adam
from jaxdescent.stability.optimizers import rmsprop as rmsprop
from jaxdescent.stability.optimizers import sgd as sgd
