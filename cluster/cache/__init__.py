"""Derived tables kept for whoever asks again: on disk here, shared within a session in `keeper`. Importing this needs no Ray."""

from cluster.cache.records import CacheError, Entry, Loaded, TableLike, Use
from cluster.cache.settings import default_limit, default_root
from cluster.cache.store import Store

__all__ = ["CacheError", "Entry", "Loaded", "Store", "TableLike", "Use", "default_limit", "default_root"]
