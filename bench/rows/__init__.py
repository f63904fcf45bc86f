"""The rows of shared figures, one module for each group. A new row is a function and one line here."""

from collections.abc import Callable

from bench.figures import Result
from bench.rows import requests
from bench.stand import Stand

Row = Callable[[Stand], Result]

ROWS: dict[str, Row] = {"P1": requests.one_route}
