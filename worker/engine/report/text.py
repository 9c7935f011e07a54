"""Strings from model files and users made fit to be looked at: visible and short. Escaping is jinja's."""

import unicodedata

#: Characters shown of a name in a table, and of a longer text.
NAME, PROSE, TOOLTIP = 56, 600, 300
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MARKS = frozenset({"Mn", "Me"})
_MOST_MARKS = 2


def visible(text: str) -> str:
    """`text` with every character that hides, reorders or rules (controls, bidi, unassigned) spelled out.

    Stacks of combining marks are cut to two, so that a name cannot paint over its neighbours.
    """
    shown, marks = list[str](), 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in _MARKS else 0
        if marks <= _MOST_MARKS:
            shown.append(_spelled(character) if category in _HIDDEN else character)
    return "".join(shown)


def _spelled(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures block: ␀ … ␟
    return f"⟨U+{code:04X}⟩"


def cut(text: str, limit: int) -> str:
    """At most `limit` characters of visible text, taken from both ends: the middle of a name says least."""
    if len(text) <= limit:
        return visible(text)
    half = (limit - 1) // 2
    return f"{visible(text[:half])}…{visible(text[-half:])}"


def name(text: str) -> str:
    """A name as a table shows it."""
    return cut(text, NAME) or "(no name)"


def tooltip(text: str) -> str | None:
    """The longer form of a name that was cut, or None when nothing was."""
    return cut(text, TOOLTIP) if len(text) > NAME else None


def prose(text: str) -> str:
    """A sentence from elsewhere: cut at the end, never in the middle."""
    return visible(text) if len(text) <= PROSE else f"{visible(text[:PROSE])}…"
