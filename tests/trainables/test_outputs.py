from __future__ import annotations

import threading
import time

import pytest

from trainables import outputs
from trainables.outputs import folder, hosted, is_building, offered


def write(text, seconds=0.0):
    def build(out):
        (out / "note").write_text(text)
        time.sleep(seconds)

    return build


def test_without_a_host_an_output_is_built_once_in_a_process():
    first = folder("a1" * 16, write("one"))
    assert (folder("a1" * 16, write("other")) / "note").read_text() == "one" and (first / "note").is_file()
    assert folder("a2" * 16, write("two")) != first


def test_threads_that_ask_at_once_build_once():
    built = []

    def build(out):
        built.append(1)
        time.sleep(0.1)
        (out / "note").touch()

    key = "b1" * 16
    threads = [threading.Thread(target=folder, args=(key, build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    assert is_building(key) and not is_building("b2" * 16)
    for thread in threads:
        thread.join()
    assert len(built) == 1 and not is_building(key)


def test_a_build_that_raises_leaves_nothing_and_may_be_tried_again():
    def fail(out):
        (out / "half").touch()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        folder("c1" * 16, fail)
    place = folder("c1" * 16, write("whole"))
    assert [path.name for path in place.iterdir()] == ["note"]


def test_a_host_is_asked_and_then_no_more(tmp_path):
    class Host:
        def folder(self, key, build, stage="", about=None):
            return tmp_path / key

        def is_building(self, key):
            return True

    with offered(Host()):
        assert folder("d1", write("")) == tmp_path / "d1" and is_building("d1")
        with offered(None):
            assert not is_building("d1")
    with hosted(None, Host()):
        assert is_building("d1")
    assert outputs._host is outputs._own
