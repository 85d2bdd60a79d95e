import os
import threading

from cluster.cache import Store
from cluster.cache.lock import FileLock
from tests.cluster.test_store import bars_of, read, table_of


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_no_lock(tmp_path):
    path, removed = tmp_path / "lock", []

    class Late(FileLock):
        def _open(self):
            descriptor = super()._open()
            if not removed:  # between our opening and our locking, its owner removes it and somebody else makes it anew
                removed.append(os.unlink(path))
                assert other.take()
            return descriptor

    other, late = FileLock(path), Late(path)
    assert not late.take(), "the other one has it"
    other.release()
    assert late.take()


def test_many_may_share_and_one_may_have_it_alone(tmp_path):
    one, two, three = (FileLock(tmp_path / "folder" / "lock") for _ in range(3))
    assert not one.is_taken() and not (tmp_path / "folder").exists()
    assert one.take(shared=True) and two.take(shared=True) and three.is_taken()
    assert not three.take()
    one.release()
    one.release()
    assert not three.take()
    two.release()
    assert three.take() and not one.take() and not one.take(shared=True) and three.is_ours and not one.is_ours


def test_trying_only_succeeds_while_others_look(tmp_path):
    store, key = Store(tmp_path), table_of(bars_of(5)).key
    read(tmp_path, table_of(bars_of(5)))
    done = threading.Event()

    def look():
        while not done.is_set():
            Store(tmp_path).entries()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(300):
            with store.building(key, timeout=0):
                pass
    finally:
        done.set()
        thread.join()
