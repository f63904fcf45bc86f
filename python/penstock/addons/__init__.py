"""Add-ons: Python code that is asked on the way of requests whose route names it.

`message` has what a hook gets and gives, `load` finds the code, `fit` compares it with the configuration, `runner` has
the threads in which it runs, `trouble` says in the log what went wrong. What must not live here: decisions about what a
hook may change (`crates/rules` judges every verdict), and the engine, which the control plane hands over as one
function.
"""

from penstock.addons.fit import check_fit
from penstock.addons.load import Loader, Loading
from penstock.addons.message import Headers, Request, Response
from penstock.addons.runner import Runners

__all__ = ["Headers", "Loader", "Loading", "Request", "Response", "Runners", "check_fit"]
