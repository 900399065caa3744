"""Change everything over and over under load; `make soak` runs it for SOAK_MINUTES, an hour by default."""

import itertools
import os
import time

import pytest

from tests.cluster.installed import Installed
from tests.cluster.kit import Kube, a_deployment, traffic, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(0)]

COLOURS = ("red", "green", "blue")


def test_hours_of_change_refuse_and_cut_nothing(kube: Kube, operator: Installed) -> None:
    until = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "60"))
    kube.apply(a_deployment("soak"))
    kube.wait_ready("soak")

    with traffic(kube.namespace, "soak", clients=3, tokens=100, retries=0) as flowing:
        for turn in itertools.count():
            if time.monotonic() > until:
                break
            env = [{"name": "COLOUR", "value": COLOURS[turn % len(COLOURS)]}]
            kube.apply(a_deployment("soak", runtime={"env": env}, replicas=1 + turn % 2))
            if turn % 3 == 2:
                operator.kill()
            kube.wait_ready("soak")
            wait_for(lambda: len(kube.items("deploy")) == 1, 120, lambda: kube.story("soak"))
            print(f"turn {turn}: {flowing.outcome.completed} completed, {len(flowing.outcome.failures)} failed")

    assert flowing.outcome.failures == []
