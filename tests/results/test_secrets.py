from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from results import Ledger, ResultRow, config_id
from results.provenance import collect
from results.rows import MAX_ERROR_CHARS
from results.secrets import holds_secret, redacted

SECRET = "s3cr3t/läng \"er' \\ than eight"


@pytest.mark.parametrize("name", ["MY_API_KEY", "hf_token", "Client_Secret", "DB_PASSWORD", "PGPASSWD", "CREDENTIALS_JSON"])
def test_the_value_of_a_variable_named_like_a_secret_gives_way_to_its_name(monkeypatch, name: str) -> None:
    monkeypatch.setenv(name, SECRET)
    assert redacted(f"401 for {SECRET}: try again") == f"401 for [{name}]: try again"


def test_a_secret_is_found_as_a_repr_json_an_address_and_a_page_spell_it(monkeypatch) -> None:
    import json
    from html import escape
    from urllib.parse import quote_plus

    monkeypatch.setenv("A_TOKEN", SECRET)
    assert redacted(f"{[SECRET]!r} {json.dumps(SECRET)} ?t={quote_plus(SECRET)}") == "['[A_TOKEN]'] \"[A_TOKEN]\" ?t=[A_TOKEN]"
    assert redacted(f"<p>{escape(SECRET)}</p>") == "<p>[A_TOKEN]</p>"


def test_of_two_secrets_that_begin_alike_the_longer_is_taken_whole(monkeypatch) -> None:
    monkeypatch.setenv("A_KEY", "abcdefgh")
    monkeypatch.setenv("B_KEY", "abcdefgh-and-more")
    assert redacted("abcdefgh-and-more, abcdefgh") == "[B_KEY], [A_KEY]"


@pytest.mark.parametrize("value", ["short", "12345678", "1e-12345", "-0.0000001", "infinity", "required"])
def test_short_values_numbers_and_words_of_settings_are_no_secrets(monkeypatch, value: str) -> None:
    monkeypatch.setenv("MAX_TOKENS", value)
    assert redacted(f"all {value} of it") == f"all {value} of it" and holds_secret(value) is None


def test_the_path_of_a_key_file_is_no_secret_but_one_that_leads_nowhere_may_be(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch()
    monkeypatch.setenv("SSH_KEY", str(tmp_path / "key.pem"))
    assert redacted(f"cannot read {tmp_path / 'key.pem'}") == f"cannot read {tmp_path / 'key.pem'}"
    monkeypatch.setenv("SSH_KEY", str(tmp_path / "gone.pem"))
    assert redacted(f"cannot read {tmp_path / 'gone.pem'}") == "cannot read [SSH_KEY]"


def test_other_variables_are_left_alone(monkeypatch) -> None:
    monkeypatch.setenv("FAVOURITE_STUDY", "selector_grid")
    assert redacted("selector_grid failed") == "selector_grid failed"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"api_key={'0123456789abcdef' * 2}01234567 refused", "api_key=[secret] refused"),
        (f"WANDB_API_KEY={'f' * 40}", "WANDB_API_KEY=[secret]"),
        (f"{{'api_key': '{'a1' * 20}'}}", "{'api_key': '[secret]'}"),
        ("key wandb_v1_Ab12Cd34Ef56Gh78Ij90 is old", "key [secret] is old"),
        ("Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc", "Authorization: Bearer [secret]"),
        ("postgresql://me:open-sesame@host/db", "postgresql://me:[secret]@host/db"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("commit 0123456789abcdef0123456789abcdef01234567", "commit 0123456789abcdef0123456789abcdef01234567"),
    ],
)
def test_what_looks_like_a_key_is_left_out_without_a_variable(text: str, kept: str) -> None:
    assert redacted(text) == kept


def test_a_long_text_costs_little(monkeypatch) -> None:
    monkeypatch.setenv("A_KEY", SECRET)
    text = "a.b:" * 100_000 + "word" * 100_000
    began = time.perf_counter()
    assert redacted(text) == text
    assert time.perf_counter() - began < 2.0


def test_a_secret_is_found_anywhere_in_a_mapping(monkeypatch) -> None:
    monkeypatch.setenv("A_KEY", SECRET)
    assert holds_secret({"a": [1, {"b": ("x", f"is {SECRET}")}]}) == "A_KEY"
    assert holds_secret({SECRET: 1}) == "A_KEY"
    assert holds_secret({"a": [1, None, "nothing"]}) is None


def test_the_command_line_is_kept_without_secrets(monkeypatch) -> None:
    monkeypatch.setenv("A_KEY", SECRET)
    monkeypatch.setattr(sys, "argv", ["/bin/alphasweep", "run", "--set", f"data.key={SECRET}"])
    assert collect()["command"] == ["alphasweep", "run", "--set", "data.key=[A_KEY]"]


def test_an_error_and_an_event_are_kept_without_secrets_also_where_they_are_cut(monkeypatch, tmp_path: Path, header) -> None:
    monkeypatch.setenv("A_KEY", SECRET)
    with Ledger.create(tmp_path / "ledger.db", header) as ledger:
        ledger.begin_session({})
        plan = ledger.add_plan({}, {}, 1)
        config = {"x": 1}
        key = config_id(header.context_id, config, header.defaults)
        error = "x" * (MAX_ERROR_CHARS - 4) + SECRET
        ledger.accept(ledger.open_attempt(plan.plan_id, 1), [ResultRow(plan.offset, key, config, "failed", None, None, error)])
        ledger.record("worker_died", error=f"with {SECRET}", attempt=3)
        assert SECRET[:4] not in ledger.trial(plan.offset)["error"]
        assert ledger.events("worker_died")[0]["detail"] == {"error": "with [A_KEY]", "attempt": 3}
