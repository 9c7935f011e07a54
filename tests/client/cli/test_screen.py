"""Nothing that came out of a file may steer a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from client.cli import screen


@given(text=st.text(st.characters(codec="utf-8") | st.sampled_from("\x1b\x07\x9b\u202e\r\x00")))
def test_control_characters_are_shown_not_obeyed(text: str) -> None:
    shown = screen.clean(text)
    assert len(shown) == len(text)
    assert not any(character in shown for character in "\x1b\x07\x9b\u202e\r\x00\x7f")
    assert screen.clean(shown) == shown
