"""Figures, targets and text as people read them on the pages."""

import pytest
from markupsafe import Markup

from api_schemas.recipe import PartSpec, Recipe, Sweep, Target
from service.dashboard.words import accuracy, asked, first_sentence, gone, paragraphs, prose

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


@pytest.mark.parametrize(
    ("value", "metric", "shown"),
    [
        (0.975, "top-1 accuracy", "97.50 %"),
        (0.975, None, "97.50 %"),
        (0.975, "mean squared error", "0.975"),
        (31.25, "PSNR", "31.250"),
        (None, "top-1 accuracy", "–"),
        (None, "mean squared error", "–"),
    ],
)
def test_only_shares_are_in_percent(value: float | None, metric: str | None, shown: str) -> None:
    assert accuracy(value, metric) == shown


def test_removed_weights_are_not_called_zero() -> None:
    assert "zero" in gone(Recipe(**PARTS))
    assert "zero" not in gone(Recipe(**PARTS | {"apply": PartSpec(name="shrink")}))


def test_paragraphs_are_apart() -> None:
    assert paragraphs("a `b`\n\nc<") == Markup("<p>a <code>b</code></p><p>c&lt;</p>")


def test_an_option_is_its_first_sentence() -> None:
    assert (
        first_sentence("Lookahead pruning (LAP, ICLR 2020). Weights that")
        == "Lookahead pruning (LAP, ICLR 2020)"
    )
    assert first_sentence("One thing") == "One thing"
