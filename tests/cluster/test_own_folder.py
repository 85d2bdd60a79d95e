from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from cluster.cache import CacheError, default_root
from cluster.cache.own import own_folder
from trainables.kernel_cache import _config, kernels_of


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    """A user without a home, and where temporary folders go."""

    def home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("ALPHASWEEP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_of_ones_own_is_closed_to_others(homeless) -> None:
    folder = homeless / f"alphasweep-{os.getuid()}"
    for mode in (None, 0o777):
        if mode:
            folder.chmod(mode)
        assert own_folder() == folder and stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert default_root() == folder / "tables"


@pytest.mark.parametrize("what", ["link", "owner"])
def test_what_somebody_else_has_put_there_is_refused(homeless, monkeypatch, what) -> None:
    folder = homeless / f"alphasweep-{os.getuid()}"
    if what == "link":
        (homeless / "theirs").mkdir()
        folder.symlink_to(homeless / "theirs")
    else:
        folder.mkdir()
        real = os.lstat(folder)
        theirs = os.stat_result((*real[:4], real.st_uid + 1, *real[5:10]))
        monkeypatch.setattr(os, "lstat", lambda path: theirs)
    with pytest.raises(CacheError, match=f"{folder} belongs to somebody else.*ALPHASWEEP_CACHE"):
        default_root()
    before = _config.CACHE_DIR
    _config.CACHE_DIR = ""
    try:
        with kernels_of(Path(__file__).parent):
            used = Path(_config.CACHE_DIR)
    finally:
        _config.CACHE_DIR = before
    assert used.is_dir() and used.is_relative_to(homeless) and not used.resolve().is_relative_to(folder.resolve())
