"""The lowest priority, in the share of a session too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeps.tracking.priority import descendants

AUTOGROUP = Path("/proc/self/autogroup")
PARENT = """
import os, subprocess, sys, time
from sweeps.tracking.priority import LOWEST, NORMAL, lowest, share
lowest()
code = "import time; print(flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
for nice in (LOWEST, NORMAL):
    share(nice)
    for pid in (os.getpid(), child.pid):
        print(os.getpriority(os.PRIO_PROCESS, pid), open(f"/proc/{pid}/autogroup").read().split()[-1])
child.kill()
"""


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="the kernel has no shares of sessions")
def test_a_process_and_the_sessions_it_begins_have_the_lowest_priority_and_their_share_again() -> None:
    out = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=True, start_new_session=True).stdout
    assert out.split() == ["19", "19", "19", "19", "19", "0", "19", "0"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not say who started whom")
def test_descendants_are_children_and_theirs() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        end = time.monotonic() + 30
        while len(found := list(descendants(child.pid))) < 1:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert {child.pid, *found} <= set(descendants(os.getpid()))
    finally:
        for pid in [child.pid, *descendants(child.pid)]:
            os.kill(pid, 9)
        child.wait()
