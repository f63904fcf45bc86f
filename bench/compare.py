"""`python -m bench.compare BASE`: the build of a revision and that of this tree, side by side.

Whether a change costs something is read here: one machine, one run, turns of a second. Peers are not needed.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace

from bench import builds, counts
from bench.__main__ import build_programs
from bench.builds import Build
from bench.contest import TROUBLE, Contender, contest, say
from bench.figures import Result, interval, ratios
from bench.launch import BenchError
from bench.peers import Peer, Penstock
from bench.rows import access_log, balancing, http2, json_route, requests, tls
from bench.stand import Settings, Stand, open_stand

# Many short turns: what disturbs the machine meets both.
SETTINGS = Settings(seconds=1, rounds=20)

SCENES: dict[str, Callable[[Stand, Peer], Contender]] = {
    "P1": lambda stand, peer: Contender(peer),
    "P1+": lambda stand, peer: balancing.bound(peer),
    "P2": lambda stand, peer: requests.late_route(peer, requests.MANY[-1]),
    "P3": access_log.logging,
    "P4": lambda stand, peer: http2.multiplexed(peer),
    "P4+TLS": http2.encrypted,
    "P5": tls.kept,
    "P5+HANDSHAKE": tls.handshaking,
    "P14": lambda stand, peer: requests.churning(peer),
    "JSON": lambda stand, peer: json_route.posting(peer, json_route.MEMBER),
}


def run(arguments: list[str]) -> int:
    """Does what the command line asks for; 1 when something could not be measured or answered wrongly."""
    options = _options(arguments)
    try:
        build_programs()
        say("compare: building")
        ours = builds.of_release() if options.profile else builds.of_tree()
        pair = (ours, builds.of_revision(options.base))
        with open_stand(replace(SETTINGS, rounds=options.rounds, seconds=options.seconds)) as stand:
            failures = [_scene(stand, name, pair, options) for name in options.rows]
    except BenchError as error:
        say(f"compare: {error}")
        return 1
    return 1 if any(failures) else 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description="Two builds of Penstock side by side.")
    parser.add_argument("base", help="revision to compare with: a commit, a branch, HEAD~3")
    parser.add_argument("--rows", type=_rows, default=["P1"], help=f"which, by comma (default P1): {','.join(SCENES)}")
    parser.add_argument("--rounds", type=int, default=SETTINGS.rounds, help=f"default {SETTINGS.rounds}")
    parser.add_argument("--seconds", type=int, default=SETTINGS.seconds, help=f"of a turn (default {SETTINGS.seconds})")
    parser.add_argument(
        "--profile", action="store_true", help="build this tree as releases are, for how it runs (make profile)"
    )
    parser.add_argument("--calls", action="store_true", help="also count system calls of a request (strace)")
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="also count instructions of a request, and misses of the first cache (valgrind)",
    )
    return parser.parse_args(arguments)


def _rows(text: str) -> list[str]:
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in SCENES]:
        raise argparse.ArgumentTypeError(f"no row {', '.join(unknown)}; there are {', '.join(SCENES)}")
    return names


def _scene(stand: Stand, name: str, pair: tuple[Build, Build], options: argparse.Namespace) -> bool:
    """Measures one row and prints it; whether something failed."""
    scene = SCENES[name]
    result = Result(name, "")
    if options.rounds:
        contest(stand, result, [scene(stand, Penstock(build)) for build in pair])
        print(f"{name}\n" + "\n".join(times(result, pair)), flush=True)
    try:
        if options.calls:
            _tell_calls(pair, [_calls(stand, scene(stand, Penstock(build))) for build in pair])
        if options.instructions:
            _tell_instructions(pair, [_instructions(stand, scene, build) for build in pair])
    except TROUBLE as error:
        result.failures["counts"] = str(error)
    for label, why in result.failures.items():
        print(f"    {label:<14} FAILED: {why}")
    return bool(result.failures)


def times(result: Result, pair: tuple[Build, Build]) -> list[str]:
    """CPU time of both builds and their ratio, as lines for people."""
    ours, theirs = (result.find(build.name) for build in pair)
    lines = [
        f"    {one.label:<14} {one.middle:.2f} {one.unit} ({min(one.samples):.2f} .. {max(one.samples):.2f})"
        for one in (ours, theirs)
        if one is not None and one.middle is not None
    ]
    if ours is not None and theirs is not None:
        each = ratios(ours, theirs)
        middle, low, high = interval(each)
        lines.append(f"    ratio {middle:.3f} (95 %: {low:.3f} .. {high:.3f}; {len(each)} rounds)")
    return lines


def _calls(stand: Stand, contender: Contender) -> dict[str, float]:
    if why := counts.missing("strace"):
        raise BenchError(why)
    say(f"{contender.peer.name}: system calls")
    return counts.system_calls(stand, contender)


def _tell_calls(pair: tuple[Build, Build], both: list[dict[str, float]]) -> None:
    ours, theirs = both
    print(f"    {'system calls a request':<24}" + "".join(f"{build.name:>14}" for build in pair))
    for name in sorted(ours.keys() | theirs.keys(), key=lambda name: -theirs.get(name, 0)):
        print(f"    {name:<24}{ours.get(name, 0):>14.3f}{theirs.get(name, 0):>14.3f}")
    print(f"    {'all':<24}{sum(ours.values()):>14.3f}{sum(theirs.values()):>14.3f}", flush=True)


def _instructions(stand: Stand, scene: Callable[[Stand, Peer], Contender], build: Build) -> counts.Instructions:
    if why := counts.missing("valgrind"):
        raise BenchError(why)
    say(f"{build.name}: instructions")
    return counts.instructions(stand, scene(stand, Penstock(build, counts.CALLGRIND)))


def _tell_instructions(pair: tuple[Build, Build], both: list[counts.Instructions]) -> None:
    for build, count in zip(pair, both, strict=True):
        missed = f"not in the first cache: {count.code_missed:.0f} times code, {count.data_missed:.0f} times data"
        print(f"    {build.name:<14} {count.run:,.0f} instructions/request; {missed}")
    print(f"    ratio {both[0].run / both[1].run:.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
