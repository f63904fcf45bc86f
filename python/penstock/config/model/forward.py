"""What only listeners of "forward" have: how the origins that clients name are treated."""

from penstock.config.model.base import Model
from penstock.config.model.upstream import UpstreamLimits, UpstreamTimeouts


class Origins(Model):
    """How the servers that clients name are treated, as endpoints of an upstream are."""

    timeouts: UpstreamTimeouts = UpstreamTimeouts()
    """How long one is waited for; `connect` counts from when its name is asked for."""
    limits: UpstreamLimits = UpstreamLimits()
    """How much one may answer; `connections`, `pending` and `requests` count over all of them together."""
