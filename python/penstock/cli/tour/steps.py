"""The steps of the tour, in order. Each sends real requests and checks what it shows: a step that only talks is not
one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from penstock.cli.explain import explanation_lines
from penstock.control.channel import ask
from penstock.engine import Explanation, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.cli.tour.stage import Stage

ORIGINS = ("shop-1", "shop-2", "shop-3", "media", "beta")

CONFIG = """\
# Written by `penstock demo`. Edit it, then: penstock reload -c THIS-FILE
[listeners.web]
bind = "127.0.0.1:0"

[listeners.relay]
bind = "127.0.0.1:0"
protocol = "tcp"
upstream = "media"

[listeners.out]
bind = "127.0.0.1:0"
protocol = "forward"
allow_private = true                             # the origins of this tour are on this machine
rules = [{{ name = "no-beta", match = 'path.startswith("/beta")', deny = 451 }}]

[upstreams.shop]
endpoints = ["{shop-1}", "{shop-2}", "{shop-3}"]
balance = "round_robin"
[upstreams.media]
endpoints = ["{media}"]
[upstreams.beta]
endpoints = ["{beta}"]

[[routes]]
name = "images"
match = 'path.startswith("/images/")'
upstream = "media"
[[routes]]
name = "beta"
match = 'header["X-Team"] == "beta"'
upstream = "beta"
[[routes]]
name = "api"
match = 'path.startswith("/api/")'
upstream = "shop"
filters = [{{ strip_prefix = "/api" }}, {{ set_request_header = {{ "X-Demo" = "rewritten" }} }}]
[[routes]]
name = "hello"
match = 'path == "/hello"'
respond = {{ body = "hello from penstock\\n" }}
[[routes]]
name = "old"
match = 'path == "/old"'
redirect = {{ to = "/new", status = 308 }}
[[routes]]
name = "shop"
upstream = "shop"

[[tests]]
url = "http://demo.example/images/a.png"
route = "images"
upstream = "media"
"""


def balanced(stage: Stage) -> None:
    """Requests are balanced over three endpoints"""
    with_one = stage.connect()
    served = Counter(stage.send("/", connection=with_one, quiet=True).origin for _ in range(12))
    with_one.close()
    stage.say("12 × GET / → " + ", ".join(f"{name}: {count}" for name, count in sorted(served.items(), key=str)))
    stage.check(set(served) == {"shop-1", "shop-2", "shop-3"}, "every endpoint of the upstream answered some of them")


def routed(stage: Stage) -> None:
    """Routed by path, and by header"""
    stage.check(stage.send("/images/a.png").origin == "media", "the path chose the upstream media")
    stage.check(stage.send("/", {"X-Team": "beta"}).origin == "beta", "the header chose the upstream beta")


def rewritten(stage: Stage) -> None:
    """Rewritten on the way"""
    asked = stage.send("/api/orders?id=7").asked
    stage.say(f"the origin was asked for {asked['target']} with {asked['headers']}")
    stage.check(asked["target"] == "/orders?id=7", "/api is gone from the path")
    stage.check(asked["headers"].get("x-demo") == "rewritten", "a header was added")
    stage.check(asked["headers"].get("x-forwarded-for") == "127.0.0.1", "the client's address was passed on")


def answered(stage: Stage) -> None:
    """Answered without an origin"""
    stage.check(stage.send("/hello").text == "hello from penstock\n", "a fixed answer")
    moved = stage.send("/old")
    stage.check(moved.status == 308 and moved.headers.get("location") == "/new", "a redirect")


def passed_on(stage: Stage) -> None:
    """Passed on at layer 4, unread"""
    words = b"GET /raw HTTP/1.0\r\nx-As-It-Is:  yes \r\n\r\n"
    stage.say(
        f"{len(words)} bytes are said to the listener relay, which speaks tcp; then the client says that it is done"
    )
    answer = stage.say_raw(words)
    stage.check(b"x-origin: media" in answer.lower(), "an endpoint has answered over the same connection")
    rows = stage.command({"command": "status"})["listeners"]
    row = next(row for row in rows if row["name"] == "relay")
    stage.check(row["bytes_in"] == len(words), f"it got {row['bytes_in']} bytes, those that were said")


def gone_out(stage: Stage) -> None:
    """Gone out for a client, to the server that it names"""
    place = f"http://{stage.origins['media'].address}"
    answer = stage.send(f"{place}/anything", over=stage.out)
    stage.check(answer.origin == "media", "the server that the URL names has answered")
    heard = [name for name in answer.asked["headers"] if name.startswith("x-forwarded")]
    stage.check(not heard, "it was told nothing of the client")
    refused = stage.send(f"{place}/beta", over=stage.out)
    stage.check(refused.status == 451 and "no-beta" in refused.text, "a rule refuses, and says its name")


def failed_over(stage: Stage) -> None:
    """An origin stops, its traffic moves"""
    stage.origins["shop-2"].stop()
    stage.say("shop-2 is stopped: its port is closed and its connections are cut")
    answers = [stage.send("/", quiet=True) for _ in range(30)]
    served = Counter(answer.origin for answer in answers)
    stage.say("30 × GET / → " + ", ".join(f"{name}: {count}" for name, count in sorted(served.items(), key=str)))
    stage.check(all(answer.status == 200 for answer in answers), "no request failed")
    stage.check("shop-2" not in served, "the others took them")


def reloaded(stage: Stage) -> None:
    """A live reload: the file changes, the connections stay"""
    kept = stage.connect()
    stage.check(stage.send("/hello", connection=kept).status == 200, "a client is connected")
    before = kept.sock
    text = stage.config.read_text("utf-8")
    stage.config.write_text(text.replace("hello from penstock", "hello again, reloaded"), "utf-8")
    applied = stage.command({"command": "reload"})
    stage.say(f"the file was edited and reloaded: version {applied['version']}")
    answer = stage.send("/hello", connection=kept)
    stage.check(answer.text == "hello again, reloaded\n", "the new configuration answers")
    stage.check(kept.sock is before and before is not None, "on the same connection")
    kept.close()


def refused(stage: Stage) -> None:
    """A change with a mistake is refused, and the old one goes on"""
    good = stage.config.read_text("utf-8")
    stage.config.write_text(good.replace('upstream = "media"', 'upstream = "medai"', 1), "utf-8")
    try:
        answer = ask(stage.control, {"command": "reload"})
    finally:
        stage.config.write_text(good, "utf-8")
    for fault in answer.get("faults", []):
        stage.say(f"line {fault['line']}: {fault['key']}: {fault['message']}")
    stage.check(bool(answer.get("faults")), "the change was refused, with the line of the mistake")
    stage.check(stage.send("/images/a.png").origin == "media", "nothing else happened")


def explained(stage: Stage) -> None:
    """Why a request goes where it goes"""
    url = f"{stage.url}/api/orders"
    found = read(Explanation, stage.command({"command": "explain", "method": "GET", "url": url}))
    for line in explanation_lines(f"penstock explain GET {url}", found):
        stage.say(line, plain=False)
    stage.check(found.route is not None and found.route.name == "api", "the running process says which route and why")


STEPS: tuple[Callable[[Stage], None], ...] = (
    balanced,
    routed,
    rewritten,
    answered,
    passed_on,
    gone_out,
    failed_over,
    reloaded,
    refused,
    explained,
)
