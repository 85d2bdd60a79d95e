"""Without torch everything else works, and what needs it says what to install."""

import subprocess
import sys

HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "chronos", "peft", "transformers", "safetensors", "huggingface_hub"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {"torch", "chronos", "peft"} else found(name, *rest)
from sweeps.cli import main
main(sys.argv[1:])
"""


def python(code, *words):
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)


def test_the_trainable_is_declared_without_importing_torch():
    code = "import sys, trainables.chronos2.trainable as t; t.ChronosLora(); print([m for m in sys.modules if m.split('.')[0] in %r])"
    done = python(code % (["torch", "transformers", "chronos", "peft"],))
    assert done.stdout.strip() == "[]", done.stderr


def test_preparing_a_study_imports_no_torch_either():
    code = (
        "import sys; from sweeps import Study; from sweeps.search import Search; s = Search(Study.load('lora_ranks')); s.check(); "
        "s.prepare(); print('torch' in sys.modules)"
    )
    done = python(code)
    assert done.stdout.strip() == "False", done.stderr


def test_without_the_libraries_a_fine_tune_says_what_to_install_and_other_studies_work(tmp_path):
    done = python(HIDE, "run", "lora_ranks", "--dir", str(tmp_path))
    words = "chronos_lora needs torch, chronos-forecasting and peft: pip install 'alphasweep[chronos]'"
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
    listed = python(HIDE, "ls")
    assert listed.returncode == 0 and "lora_ranks" in listed.stdout
    assert python(HIDE, "validate", "selector_grid").returncode == 0
