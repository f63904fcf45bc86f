"""The whole way once, against the relay that parses nothing: that the bench works, never how fast anything is."""

import pytest
from bench import wrk
from bench.contest import Contender, contest
from bench.figures import Result
from bench.peers import NullRelay
from bench.peers.null_relay import built
from bench.stand import Settings, open_stand


def test_one_second_against_the_null_relay():
    if not wrk.found():
        pytest.skip("wrk is not installed")
    if missing := [name for name in ("origin", "null_relay") if not built(name).exists()]:
        pytest.skip(f"not built: {', '.join(missing)} (cargo build --release -p penstock-bench)")
    with open_stand(Settings(seconds=1, rounds=1, connections=8)) as stand:
        result = contest(stand, Result("P1", "smoke"), [Contender(NullRelay())])
    assert result.failures == {}
    figure = result.find("null relay")
    assert figure is not None
    assert figure.samples[0] > 0
    assert figure.beside["requests_per_second"][0] > 0
