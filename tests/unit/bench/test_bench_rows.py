"""What rows ask for is what their titles say; how fast anything is, no test knows."""

import json
from pathlib import Path

from bench.certificate import Certificate
from bench.peers import Penstock, Scenario
from bench.rows.json_route import LENGTH, MEMBER, order

from penstock.config import check, load


def test_an_order_has_2_kb_and_its_plan_at_the_end():
    for plan in ("pro", "free"):
        text = order(plan)
        assert len(text.encode()) == LENGTH
        assert json.loads(text)["customer"]["plan"] == plan
        assert text.endswith(f'"plan": "{plan}"}}}}')


def test_every_scenario_is_a_configuration(tmp_path: Path):
    for number, scenario in enumerate(
        [
            Scenario(balancing=True),
            Scenario(routes=20, edits=True, health_check=True, balancing=True),
            Scenario(tcp=True),
            Scenario(forward="plain"),
            Scenario(forward="opened", tls=Certificate(tmp_path / "a.crt", tmp_path / "a.key", tmp_path / "a.pem")),
            Scenario(orders=True),
            Scenario(orders=True, member=MEMBER),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        Penstock().prepare(folder, 8080, 9000, scenario)
        assert check(load(folder / "penstock.toml")) == []
