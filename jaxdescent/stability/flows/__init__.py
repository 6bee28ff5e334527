"""Flows: differential equations for the path of an optimizer.

    central_flow       the average path of an optimizer, also at the edge of stability
    gradient_flow      the path that an optimizer would take without oscillations

The optimizers with known flows, with optax's arguments:

    sgd, rmsprop, adam     jd.central_flow(loss_fn, params, batch, jd.flows.adam(1e-3), steps=9)

The flows as (init, step) pairs for your own loops; one step advances by one optimizer step:

    central, gradient      state, info = jd.flows.central(loss_fn, optimizer).step(state, batch)
"""

from jaxdescent.stability.flows.central_flows import (
    CentralFlowInfo,
    CentralFlowState,
    central,
    central_flow,
)
from jaxdescent.stability.flows.flow import Flow
from jaxdescent.stability.flows.gradient_flows import (
    GradientFlowInfo,
    GradientFlowState,
    gradient,
    gradient_flow,
)
from jaxdescent.stability.flows.optimizers import FlowOptimizer, adam, rmsprop, sgd

__all__ = [
    "CentralFlowInfo",
    "CentralFlowState",
    "Flow",
    "FlowOptimizer",
    "GradientFlowInfo",
    "GradientFlowState",
    "adam",
    "central",
    "central_flow",
    "gradient",
    "gradient_flow",
    "rmsprop",
    "sgd",
]


def __dir__() -> list[str]:
    return __all__
