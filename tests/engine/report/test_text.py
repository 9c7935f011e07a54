"""Strings from model files are made visible and short, and otherwise left alone."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from worker.engine.report import text


@given(st.text(max_size=200))
def test_nothing_hidden_is_left(value: str) -> None:
    for character in text.visible(value):
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), min_size=1))
def test_plain_names_stay_as_they_are_up_to_the_limit(value: str) -> None:
    shown = text.name(value)
    assert shown == value if len(value) <= text.NAME else len(shown) <= text.NAME


def test_a_long_name_keeps_both_ends() -> None:
    shown = text.name("model.encoder." + "x" * 1000 + ".weight")
    assert shown.startswith("model.encoder.")
    assert shown.endswith(".weight")
    assert "…" in shown


def test_controls_and_direction_marks_are_spelled_out() -> None:
    assert text.visible("a\x00b\x1b[31m\u202ec") == "a␀b␛[31m⟨U+202E⟩c"


def test_marks_do_not_pile_up() -> None:
    assert text.visible("e" + "\u0301" * 50) == "e\u0301\u0301"


def test_a_nameless_thing_is_called_so() -> None:
    assert text.name("") == "(no name)"
