"""JSON: what it adds to a POST of 2 KB that its route depends on a member of its body."""

import json

from bench import check
from bench.contest import Contender, contest
from bench.figures import Result
from bench.peers import Peer, Penstock, Scenario
from bench.stand import Running, Stand

LENGTH = 2048
MEMBER = 'json["/customer/plan"]'


def json_route(stand: Stand) -> Result:
    """The member stands at the end of the body, so that all of it is read; beside the same POST routed by its path."""
    result = Result("JSON", "POST of 2 KB routed by a member of its JSON body")
    contest(stand, result, [posting(Penstock(), ""), posting(Penstock(), MEMBER)])
    by_member, by_path = (result.find("penstock", variant) for variant in ("by member", "by path"))
    result.exceed(by_member, by_path, "routed by path", 3.0)
    return result


def posting(peer: Peer, member: str) -> Contender:
    """Orders of one plan, routed by their path and, if it is named, by the member that says the plan."""

    def right(running: Running) -> None:
        check.orders(running.port, order("pro").encode(), order("free").encode(), by_member=bool(member))

    return Contender(
        peer,
        Scenario(orders=True, member=member),
        "by member" if member else "by path",
        "/orders",
        ("Content-Type: application/json",),
        order("pro"),
        right,
    )


def order(plan: str) -> str:
    """An order of 2 KB as a shop's client would send it."""
    items = [
        {"sku": f"A-{number:04}", "title": "Water pipe, steel, 2 m", "count": number % 4 + 1, "price": 12.5 + number}
        for number in range(22)
    ]
    whole = {"items": items, "note": "", "customer": {"name": "Zoë", "plan": plan}}
    whole["note"] = "x" * (LENGTH - len(json.dumps(whole).encode()))
    return json.dumps(whole)
