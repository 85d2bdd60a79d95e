"""Every planted leak is found, and blamed on the right stage."""

from collections import Counter

import pytest

from tests.audit.leaks import DATA, LEAKS
from trainables.audit import audit


@pytest.mark.parametrize("leak", LEAKS, ids=[f"{x.register} {x.name}".strip() for x in LEAKS])
def test_a_planted_leak_is_found_where_it_is(leak):
    checks = [leak.check, "entrance"] if "loading" in leak.name else [leak.check]
    options = {"cuts": 6 if leak.register == "J19" else 3, "null_seeds": 6, "checks": checks} | leak.options
    report = audit(leak.make(), DATA, leak.settings, leak.configs, **options)
    found = report.finding(leak.check)
    assert found.passed is False and found.stage == leak.stage, str(report)
    assert not report.ok and leak.check in str(report)


def test_the_catalogue_covers_every_stage_and_check():
    assert len(LEAKS) >= 12
    stages = Counter(x.stage for x in LEAKS)
    assert set(stages) == {"bars", "costs", "forecasts", "actions", "calendar", "candidates", "fills", "equity", "metrics"}
    assert {x.check for x in LEAKS} == {"determinism", "batch", "future", "next bar", "other symbol", "null market", "alarm"}
    registered = {x.register for x in LEAKS}
    assert {"J1", "J2", "J3", "J4", "J5", "J6", "J13", "J14", "J16", "J17", "J18", "J19", "J23"} <= registered
