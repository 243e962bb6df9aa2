"""What a fault may ask of a target, one small Protocol each, so that faults are blind to targets.

A target has a capability by having its methods. `Fault.needs` names one, and the loader refuses a
fault on a kind of target without it.
"""

from chaoskit.capabilities.containers import CanBeMadeAgain, HasEndpoints, IsContainer
from chaoskit.capabilities.links import HasLink
from chaoskit.capabilities.networks import HasNetwork, HasPackets, HasResolver
from chaoskit.capabilities.places import HasBurdens, HasClock, HasFiles, HasLimits
from chaoskit.capabilities.processes import HasProcesses, HasRole, Proc

__all__ = [
    "CanBeMadeAgain",
    "HasBurdens",
    "HasClock",
    "HasEndpoints",
    "HasFiles",
    "HasLimits",
    "HasLink",
    "HasNetwork",
    "HasPackets",
    "HasProcesses",
    "HasResolver",
    "HasRole",
    "IsContainer",
    "Proc",
]
