"""What the table wants in the protocol and in every row is there, for every suite that is shipped."""

from dataclasses import fields

import pytest

from eval.libero.suite import LiberoSuite
from eval.metaworld.suite import MetaWorldSuite
from eval.preflight.case_check import check_listed
from eval.preflight.protocol_check import check_protocol
from eval.results.row import EpisodeRow
from eval.simpler.suite import SimplerSuite
from eval.suite import Suite

SUITES: dict[str, Suite] = {
    "metaworld": MetaWorldSuite(subset="mt10", episodes=3),
    "libero_spatial": LiberoSuite("libero_spatial"),
    "libero_90": LiberoSuite("libero_90", preset="lerobot"),
    "libero openvla": LiberoSuite("libero_goal", preset="openvla"),
    "google": SimplerSuite("google"),
    "google variants": SimplerSuite("google", grid="variant_aggregation"),
    "widowx": SimplerSuite("widowx"),
}


def test_a_row_holds_what_decides_its_number() -> None:
    names = {field.name for field in fields(EpisodeRow)}
    assert {"execute", "max_steps", "steps"} <= names, "the chunk executed and the limit"
    assert {"success_any", "success_final", "success_first", "quoted", "readings"} <= names, "all readings"
    assert {"seed", "policy_seed", "init"} <= names, "both seeds, and which initial state"
    assert {"protocol_json", "protocol_hash", "checkpoint", "versions", "assets"} <= names


@pytest.mark.parametrize("name", SUITES)
def test_a_protocol_says_chunk_rate_readings_and_cameras(name: str) -> None:
    suite = SUITES[name]
    assert suite.protocol["execute"] == suite.execute
    assert suite.protocol["control_hz"] == pytest.approx(
        {"metaworld": 26.67, "google": 3, "google variants": 3, "widowx": 5}.get(name, 20), rel=1e-3
    )
    assert suite.protocol["quoted"] == suite.quoted
    verdicts = {finding.where: finding.verdict for finding in check_protocol(suite, None, [], None)}
    assert "refused" not in verdicts.values(), verdicts
    assert ("sticky gripper (steps)" in verdicts) == ("google" in name)


@pytest.mark.parametrize("name", SUITES)
def test_grids_are_data(name: str) -> None:
    (finding,) = check_listed(SUITES[name])
    assert finding.verdict == "passed", finding
    assert finding.what.startswith(f"{len(SUITES[name].cases())} cases of")
