"""One configuration, one identity, in every study and on every machine (DESIGN 3.2).

Two spellings of the same point must not run twice, so a configuration is first written in one canonical way
(`canonical_json`) and then hashed together with everything else that decides its result: trainable and version,
data, protocol and seed, which make up the *context*.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from math import isfinite
from typing import Any, Final

import numpy as np

CONFIG_ID_BYTES: Final = 16

# One encoder for the process: json.dumps builds a new one per call as soon as any option is given.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False).encode
_encode_as_given = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
_PLAIN: Final = frozenset({str, int, bool, type(None)})


class IdentityError(ValueError):
    """A value that cannot be part of a configuration's identity."""


def canonical_json(obj: Any) -> str:
    """Write `obj` as JSON text that is equal exactly when the values are equal.

    Keys are sorted, numpy scalars are unwrapped, tuples are lists, integral floats are written as integers (`1.0`
    and `1` are one value, `-0.0` is `0`). `True` and `1` stay different, as in JSON.

    Args:
        obj: Mappings with text keys, lists, tuples, text, numbers, booleans, None, nested at will.

    Returns:
        ASCII text without blanks.

    Raises:
        IdentityError: For NaN, infinities, keys that are not text, and types JSON does not have.
    """
    return _encode(_normal(obj, ""))


def ordered_json(obj: Any) -> str:
    """Write `obj` like `canonical_json`, but with keys in the order given: that of a space numbers its points.

    Raises:
        IdentityError: As `canonical_json`.
    """
    return _encode_as_given(_normal(obj, ""))


def context_id(trainable: str, version: str, data_fingerprint: str, protocol: Mapping[str, Any], seed: int) -> str:
    """Name everything but the configuration that decides a result.

    Args:
        trainable: Name of the trainable, e.g. "selector".
        version: The trainable's own version: it changes when the same configuration would give another result.
        data_fingerprint: Content hash of the data.
        protocol: Folds, execution profile, costs: whatever the study holds fixed.
        seed: The study's seed.

    Returns:
        32 hexadecimal digits (blake2b, 128 bits).
    """
    parts = {"trainable": trainable, "version": version, "data_fingerprint": data_fingerprint, "protocol": protocol, "seed": seed}
    return blake2b(canonical_json(parts).encode(), digest_size=16, person=b"alphasweep-ctx").hexdigest()


def config_id(context: str, config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> bytes:
    """Return the 16-byte identity of one configuration within a context (see `config_ids`)."""
    return config_ids(context, [config], defaults)[0]


def config_ids(context: str, configs: Iterable[Mapping[str, Any]], defaults: Mapping[str, Any] | None = None) -> list[bytes]:
    """Return the identities of many configurations, a few microseconds each.

    Args:
        context: From `context_id`.
        configs: The configurations.
        defaults: Values of parameters a configuration may leave out; they are part of the context. A configuration that
            spells a default and one that omits it are one point.

    Returns:
        One 16-byte identity per configuration, in order.
    """
    known, base = _normal(defaults or {}, ""), _config_hash(context)
    return [_hashed(base, known, _normal(config, ""))[0] for config in configs]


def identified(context: str, configs: Iterable[Mapping[str, Any]], defaults: Mapping[str, Any] | None = None) -> list[tuple[bytes, str]]:
    """Return the identity and the canonical text of many configurations, putting each into its canonical form once.

    Args:
        context: From `context_id`.
        configs: The configurations.
        defaults: As for `config_ids`.

    Returns:
        (`config_ids`, `canonical_json`) per configuration, in order.
    """
    known, base = _normal(defaults or {}, ""), _config_hash(context)
    made = []
    for config in configs:
        plain = _normal(config, "")
        identity, text = _hashed(base, known, plain)
        made.append((identity, _encode(plain) if text is None else text))
    return made


def trial_seed(study_seed: int, config_id: bytes) -> int:
    """Derive a trial's seed, the same in whatever order, session or pack it runs.

    Args:
        study_seed: The study's seed, any integer.
        config_id: 16 bytes from `config_id`.

    Returns:
        Integer in [0, 2**64).
    """
    digest = blake2b(str(int(study_seed)).encode(), digest_size=8, key=config_id, person=b"alphasweep-seed")
    return int.from_bytes(digest.digest(), "little")


def _config_hash(context: str) -> blake2b:
    digest = blake2b(digest_size=CONFIG_ID_BYTES, person=b"alphasweep-cfg")
    digest.update(context.encode())
    digest.update(b"\n")
    return digest


def _hashed(base: blake2b, known: Mapping[str, Any], plain: dict[str, Any]) -> tuple[bytes, str | None]:
    """Returns the identity of a configuration in canonical form, and its text if that is what was hashed."""
    # 1 == True in Python, but not in a configuration.
    kept = {
        key: value
        for key, value in plain.items()
        if key not in known or known[key] != value or isinstance(known[key], bool) != isinstance(value, bool)
    }
    text = _encode(kept)
    digest = base.copy()  # the context is absorbed once, not once per configuration
    digest.update(text.encode())
    return digest.digest(), text if len(kept) == len(plain) else None


def _normal(value: Any, where: str) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        if not isfinite(value):
            raise IdentityError(f"{where or 'value'} is {value!r}: NaN and infinity have no identity; use null or a finite number")
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return _normal_mapping(value, where)
    if isinstance(value, (list, tuple)):
        return [_normal(item, f"{where}[{i}]") for i, item in enumerate(value)]
    return _unwrap(value, where)


def _normal_mapping(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    out = {}
    for key, item in value.items():
        if type(key) is not str:
            if not isinstance(key, str):
                raise IdentityError(f"key {key!r} in {where or 'the configuration'} is {type(key).__name__}: keys must be text")
            key = str.__str__(key)
        # Plain values and numbers skip the recursion (and the path text): nearly all of a grid's values are these.
        kind = type(item)
        if kind in _PLAIN:
            out[key] = item
        elif kind is float and isfinite(item):
            out[key] = int(item) if item.is_integer() else item
        else:
            out[key] = _normal(item, f"{where}.{key}" if where else key)
    return out


def _unwrap(value: Any, where: str) -> Any:
    """Numpy scalars, and subclasses of the plain types such as enumerations of text."""
    if isinstance(value, np.generic):
        inner = value.item()
        if type(inner) in _PLAIN or type(inner) is float:
            return _normal(inner, where)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _normal(float(value), where)
    raise IdentityError(
        f"{where or 'value'} is a {type(value).__name__}, which has no canonical form; use text, numbers, booleans, null, lists or mappings"
    )


def id_array(ids: Sequence[bytes]) -> np.ndarray:
    """Pack identities into a numpy array (`S16`, 16 bytes each instead of about 100 in a set) for set operations."""
    joined = b"".join(ids)
    if len(joined) != CONFIG_ID_BYTES * len(ids):
        raise IdentityError(f"a config_id has {CONFIG_ID_BYTES} bytes; got some of another length")
    return np.frombuffer(joined, dtype=f"S{CONFIG_ID_BYTES}")
