from __future__ import annotations

import enum
import json
import math
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.identity import IdentityError, canonical_json, config_id, config_ids, context_id, id_array, identified, trial_seed

CONTEXT = context_id("selector", "3", "f00d", {"profile": "realistic", "lag": 1}, 42)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
configs = st.dictionaries(st.text(max_size=4), values, max_size=5)


class Mode(str, enum.Enum):  # noqa: UP042 - the older spelling is the one people's configurations have
    HIGH = "high_low"


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": 1}, {"a": 1.0}),
        ({"a": 0.0}, {"a": -0.0}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": np.int64(3), "b": np.float64(0.5), "c": np.bool_(True), "d": np.str_("x")}, {"a": 3, "b": 0.5, "c": True, "d": "x"}),
        ({"a": (1, 2)}, {"a": [1.0, 2]}),
        ({"a": {"b": 2.0, "a": None}}, {"a": {"a": None, "b": 2}}),
        ({"a": Mode.HIGH}, {"a": "high_low"}),
        ({"a": 1e20}, {"a": 10**20}),
    ],
)
def test_two_spellings_of_one_configuration_have_one_identity(left: dict, right: dict) -> None:
    assert canonical_json(left) == canonical_json(right)
    assert config_id(CONTEXT, left) == config_id(CONTEXT, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": "1"}, {"a": 1}),
        ({"a": None}, {}),
        ({"a": 0.1}, {"a": 0.1 + 1e-16}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
    ],
)
def test_different_configurations_differ(left: dict, right: dict) -> None:
    assert config_id(CONTEXT, left) != config_id(CONTEXT, right)


@given(configs, configs)
def test_canonical_text_is_equal_exactly_when_the_values_are(left: dict, right: dict) -> None:
    def typed(value: object) -> object:  # == alone takes True for 1
        if isinstance(value, bool) or value is None or isinstance(value, str):
            return (type(value).__name__, value)
        if isinstance(value, dict):
            return {key: typed(item) for key, item in value.items()}
        return [typed(item) for item in value] if isinstance(value, list) else ("number", value)

    assert (canonical_json(left) == canonical_json(right)) == (typed(left) == typed(right))


@given(configs)
def test_canonical_text_is_stable_under_parsing_and_writing_again(config: dict) -> None:
    text = canonical_json(config)
    assert canonical_json(json.loads(text)) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), {1, 2}, object(), b"x", np.array([1, 2])])
def test_a_value_without_a_canonical_form_is_refused_and_named(value: object) -> None:
    with pytest.raises(IdentityError, match=r"outer\.lr\[1\]"):
        canonical_json({"outer": {"lr": [1, value]}})


def test_keys_must_be_text() -> None:
    with pytest.raises(IdentityError, match="keys must be text"):
        canonical_json({"a": {1: 2}})


def test_every_part_of_the_context_changes_every_identity() -> None:
    parts = {"trainable": "selector", "version": "3", "data_fingerprint": "f00d", "seed": 42}
    parts["protocol"] = {"profile": "realistic", "lag": 1}
    others = [
        parts | change
        for change in ({"trainable": "policy"}, {"version": "4"}, {"data_fingerprint": "beef"}, {"protocol": {"lag": 1}}, {"seed": 43})
    ]
    identities = {config_id(context_id(**each), {"a": 1}) for each in [parts, *others]}
    assert len(identities) == 6
    assert context_id(**parts) == CONTEXT and len(CONTEXT) == 32 and int(CONTEXT, 16) >= 0


def test_identities_never_change_between_versions() -> None:
    # Golden: a change here orphans every ledger in existence; raise the schema version if it must be.
    assert CONTEXT == "4aa6ef910de8a0ea0264277cbfac6d27"
    config = {"min_edge": 0.004, "risk_weight": 0.2, "edge_mode": "high_low", "hold": 24}
    assert config_id(CONTEXT, config).hex() == "2d87e93bc1200c4666daa50b622b086f"
    assert trial_seed(42, bytes(16)) == 13183211089992396393


def test_a_batch_gives_the_same_identities_as_one_by_one() -> None:
    batch = [{"x": i, "y": i / 3} for i in range(50)]
    assert config_ids(CONTEXT, batch) == [config_id(CONTEXT, config) for config in batch]
    assert all(len(identity) == 16 for identity in config_ids(CONTEXT, batch))
    assert config_ids(CONTEXT, []) == []


@given(st.lists(configs, max_size=4), configs)
def test_an_identity_is_the_hash_of_what_differs_from_the_defaults_and_the_text_that_of_all(batch: list, defaults: dict) -> None:
    for config, made in zip(batch, identified(CONTEXT, batch, defaults), strict=True):
        kept = {
            key: value for key, value in config.items() if key not in defaults or canonical_json(defaults[key]) != canonical_json(value)
        }
        told = f"{CONTEXT}\n{canonical_json(kept)}".encode()
        assert made.config_id == blake2b(told, digest_size=16, person=b"alphasweep-cfg").digest()
        assert made.text == canonical_json(config) and made.context == CONTEXT
    assert config_ids(CONTEXT, batch, defaults) == [config_id(CONTEXT, config, defaults) for config in batch]


def test_values_that_python_takes_for_equal_are_told_apart_whichever_comes_first() -> None:
    batch = [{"x": value} for value in (1, True, 1.0, 0, False, -0.0, "1", None)]
    texts = [made.text for made in identified(CONTEXT, [*batch, *reversed(batch)])]
    assert texts[:8] == ['{"x":1}', '{"x":true}', '{"x":1}', '{"x":0}', '{"x":false}', '{"x":0}', '{"x":"1"}', '{"x":null}']
    assert texts[8:] == texts[7::-1]


def test_trial_seeds_depend_on_study_seed_and_configuration_only() -> None:
    first, second = config_ids(CONTEXT, [{"x": 1}, {"x": 2}])
    seeds = {trial_seed(1, first), trial_seed(2, first), trial_seed(1, second), trial_seed(-1, first)}
    assert len(seeds) == 4 and all(0 <= seed < 2**64 for seed in seeds)
    assert trial_seed(1, first) == trial_seed(np.int64(1), first)
    many = [trial_seed(1, identity) for identity in config_ids(CONTEXT, [{"x": i} for i in range(2000)])]
    assert len(set(many)) == 2000 and 0.45 < sum(seed >> 63 for seed in many) / 2000 < 0.55  # all 64 bits are used


def test_identities_of_another_length_are_refused() -> None:
    with pytest.raises(IdentityError, match="16 bytes"):
        id_array([b"short"])
