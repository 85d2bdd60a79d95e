from __future__ import annotations

import subprocess
import sys
from pathlib import Path

STEP = "from numba import njit\n\n\n@njit(cache=True)\ndef step(x):\n    return x + {}\n"
LOOP = "from numba import njit\n\nfrom pack.step import step\n\n\n@njit(cache=True)\ndef loop(x):\n    return step(step(x))\n"
INIT = """from pathlib import Path

from trainables.kernel_cache import kernels_of

with kernels_of(Path(__file__).parent):
    from pack.loop import loop
"""


def answer(folder: Path) -> str:
    code = "import numba; before = numba.config.CACHE_DIR; from pack import loop; assert numba.config.CACHE_DIR == before; print(loop(0))"
    root = str(Path(__file__).parents[2])
    env = {"PATH": "", "PYTHONPATH": f"{folder}:{root}", "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_kernel_is_compiled_again_when_a_function_it_calls_changed_in_another_file(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    for name, text in (("__init__", INIT), ("loop", LOOP), ("step", STEP.format(1))):
        (pack / f"{name}.py").write_text(text)
    assert answer(tmp_path) == "2"
    assert len(list((tmp_path / "cache" / "alphasweep").glob("kernels-*/**/*.nbi"))) == 2
    (pack / "step.py").write_text(STEP.format(10))
    assert answer(tmp_path) == "20"
