"""Figures, targets and text as people read them on the pages."""

import pytest
from markupsafe import Markup

from api_schemas.recipe import PartSpec, Recipe, Sweep, Target
from service.dashboard.words import asked, first_sentence, paragraphs, prose

PARTS = {
    axis: PartSpec(name="any")
    for axis in ("criterion", "granularity", "allocation", "schedule", "apply", "recovery")
}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Target(sparsity=0.8), "80 %"),
        (Target(sparsity=0.9975), "99.75 %"),
        (Target(macs=0.25), "MACs × 0.25"),
        (Target(parameters=0.4), "parameters × 0.4"),
        (Target(size_bytes=0.5), "size × 0.5"),
        (Target(latency=0.7), "latency × 0.7"),
        (Target(accuracy_drop=1.5), "−1.5 points"),
        (None, "by layer"),
    ],
)
def test_every_target_says_how_much(target: Target | None, words: str) -> None:
    assert asked(Recipe(**PARTS, target=target)) == words


def test_a_sweep_says_over_how_many() -> None:
    sweep = Sweep(targets=[Target(sparsity=0.3), Target(sparsity=0.5), Target(macs=0.5)])
    assert asked(Recipe(**PARTS, sweep=sweep)) == "sweep of 3"


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("a `b` c", "a <code>b</code> c"),
        ("`b`", "<code>b</code>"),
        ("a ` b", "a ` b"),
        ("`a` `b", "<code>a</code> `b"),
        ("<i> `<b>`", "&lt;i&gt; <code>&lt;b&gt;</code>"),
        ("", ""),
    ],
)
def test_backticks_become_code_and_nothing_else_becomes_markup(text: str, marked: str) -> None:
    assert prose(text) == Markup(marked)


def test_paragraphs_are_apart() -> None:
    assert paragraphs("a `b`\n\nc<") == Markup("<p>a <code>b</code></p><p>c&lt;</p>")


def test_an_option_is_its_first_sentence() -> None:
    assert (
        first_sentence("Lookahead pruning (LAP, ICLR 2020). Weights that")
        == "Lookahead pruning (LAP, ICLR 2020)"
    )
    assert first_sentence("One thing") == "One thing"
