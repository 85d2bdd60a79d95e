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
from operator import itemgetter
from typing import Any, Final, NamedTuple

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
    """Return the identities of many configurations: `identified`, without the texts."""
    return [made.config_id for made in identified(context, configs, defaults)]


class Identified(NamedTuple):
    """What `identified` says of a configuration.

    Attributes:
        context: In which context.
        config_id: Its identity there, 16 bytes.
        text: Its `canonical_json`.
    """

    context: str
    config_id: bytes
    text: str


def identified(context: str, configs: Iterable[Mapping[str, Any]], defaults: Mapping[str, Any] | None = None) -> list[Identified]:
    """Return identities and canonical texts of many configurations, a few microseconds each.

    Args:
        context: From `context_id`.
        configs: The configurations.
        defaults: Values of parameters a configuration may leave out; they are part of the context. A configuration that
            spells a default and one that omits it are one point.

    Returns:
        One per configuration, in order.

    Raises:
        IdentityError: As `canonical_json`.
    """
    pairs = _Pairs()
    base, known = _config_hash(context), frozenset(pairs.of(defaults or {}))
    made = []
    for config in configs:
        spelt = pairs.of(config)
        kept = [pair for pair in spelt if pair not in known]
        text = _braced(spelt)
        digest = base.copy()  # the context is absorbed once, not once per configuration
        digest.update((text if len(kept) == len(spelt) else _braced(kept)).encode())
        made.append(Identified(context, digest.digest(), text))
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


# A key as given, its name, `"name":`, and what has been written of it: by value, with the value's type.
_Parameter = tuple[Any, str, str, dict[Any, tuple[type, str]]]


class _Pairs:
    """Writes parameters as canonical JSON, `"name":value`: each combination of name and value once, for most come again and again."""

    def __init__(self) -> None:
        self._orders: dict[tuple[Any, ...], list[_Parameter]] = {}
        self._parameters: dict[str, _Parameter] = {}

    def of(self, config: Mapping[str, Any]) -> list[str]:
        """Returns a configuration's parameters by name; joined with commas, in braces, they are its `canonical_json`."""
        names = tuple(config)
        order = self._orders.get(names)
        if order is None:
            order = self._orders[names] = sorted(map(self._parameter, names), key=itemgetter(1))
        pairs = []
        for key, name, start, written in order:
            value = config[key]
            kind = type(value)
            if kind is not float and kind not in _PLAIN:
                pairs.append(start + _encode(_normal(value, name)))
                continue
            before = written.get(value)
            if before is None or before[0] is not kind:  # 1 == True in Python, but not in a configuration
                # What the encoder makes of a number that is no integer, without calling it.
                plain = kind is float and isfinite(value) and not value.is_integer()
                before = written[value] = (kind, start + (repr(value) if plain else _encode(_normal(value, name))))
            pairs.append(before[1])
        return pairs

    def _parameter(self, key: Any) -> _Parameter:
        name = _name(key, "")
        return self._parameters.setdefault(key, (key, name, f"{_encode(name)}:", {}))


def _braced(pairs: Sequence[str]) -> str:
    return f"{{{','.join(pairs)}}}"


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
        key = _name(key, where)
        # Plain values and numbers skip the recursion (and the path text): nearly all of a grid's values are these.
        kind = type(item)
        if kind in _PLAIN:
            out[key] = item
        elif kind is float and isfinite(item):
            out[key] = int(item) if item.is_integer() else item
        else:
            out[key] = _normal(item, f"{where}.{key}" if where else key)
    return out


def _name(key: Any, where: str) -> str:
    if type(key) is str:
        return key
    if not isinstance(key, str):
        raise IdentityError(f"key {key!r} in {where or 'the configuration'} is {type(key).__name__}: keys must be text")
    return str.__str__(key)


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
