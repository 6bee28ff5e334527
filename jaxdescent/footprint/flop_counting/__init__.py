"""FLOPs of a function, counted from its jaxpr."""

from jaxdescent.footprint.flop_counting.counting import Flops, flops
from jaxdescent.footprint.flop_counting.traversal import FlopsByKind

__all__ = ["Flops", "FlopsByKind", "flops"]
