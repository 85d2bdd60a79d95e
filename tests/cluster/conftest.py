from __future__ import annotations

import pytest

from cluster.session import ray_session


@pytest.fixture(scope="module")
def ray_cpus():
    with ray_session(None, 2) as cpus:
        yield cpus
