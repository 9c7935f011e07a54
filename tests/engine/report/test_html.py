"""The report page: whole and safe for any report, and every figure on it is the JSON's."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api_schemas.jobs import Refusal, Summary
from api_schemas.recipe import PartSpec, Target
from api_schemas.report import (
    AccuracyReport,
    CurvePoint,
    DataSource,
    MetricReport,
    RecoveryReport,
    Report,
)
from tests.engine.report.page import as_xml, read, visible_text
from tests.engine.report.samples import HOSTILE, layer, recipe, report, reports
from worker.engine.report import html
from worker.engine.report.html import render

slow = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def at(json_report: object, pointer: str) -> object:
    """RFC 6901 by hand, for the test's own use."""
    for key in pointer.lstrip("/").split("/"):
        json_report = json_report[int(key) if isinstance(json_report, list) else key]  # type: ignore[index]
    return json_report


@slow
@given(reports)
def test_any_report_gives_a_page_that_is_whole_and_loads_nothing(sample: Report) -> None:
    page = render(sample)
    as_xml(page)
    reader = read(page)
    tags = {tag for tag, _ in reader.elements}
    assert not tags & {"script", "img", "iframe", "object", "embed", "form", "a", "base"}
    for tag, attributes in reader.elements:
        assert not any(
            name.startswith("on") or name in {"style", "src", "srcset", "action"} for name in attributes
        )
        assert "href" not in attributes or (tag, attributes["href"]) == ("link", "data:,")
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


@slow
@given(reports)
def test_every_figure_on_the_page_is_the_one_in_the_json(sample: Report) -> None:
    truth = json.loads(sample.model_dump_json())
    figures = read(render(sample)).figures
    assert figures
    for attributes, text in figures:
        assert text.strip()
        value = json.loads(str(attributes["value"]))
        if pointer := attributes.get("data-json"):
            assert value == at(truth, pointer), pointer
        elif pair := attributes.get("data-change"):
            before, after = (at(truth, item) for item in pair.split())
            assert value == pytest.approx((after - before) / before, abs=1e-12, rel=1e-9)  # type: ignore[operator]
        else:
            before, after = (at(truth, item) for item in str(attributes["data-difference"]).split())
            assert value == after - before  # type: ignore[operator]


def shown_number(text: str) -> float:
    """A figure as a reader takes it in: sign, separators, powers of ten, prefixes and percent undone."""
    plain = text.replace("−", "-").replace(",", "").replace("±", "")
    power = re.search(r" × 10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", plain)
    exponent = int(power[1].translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-"))) if power else 0
    number = re.search(r"[-+]?[0-9.]+", plain)
    assert number is not None, text
    scale = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
    unit = re.search(r" ([kMGTPE])B?$", plain)
    factor = scale[unit[1]] if unit else 0.01 if plain.endswith("%") else 1.0
    return float(number[0]) * 10.0**exponent * factor


@slow
@given(reports)
def test_what_a_reader_sees_is_the_value_within_its_rounding(sample: Report) -> None:
    for attributes, text in read(render(sample)).figures:
        value = float(str(attributes["value"]))
        if text.startswith(("<", ">")):
            continue
        if text.endswith("points"):
            value *= 100
        half_digit = {"%": 0.00051, "points": 0.0051}.get(text.split()[-1], 5e-7)
        assert shown_number(text) == pytest.approx(value, rel=0.0051, abs=half_digit), text


@slow
@given(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=200), min_size=1, max_size=8))
def test_no_hostile_string_reaches_the_page_alive(names: list[str]) -> None:
    layers = [
        layer(0, (2, 2)).model_copy(update={"name": name, "op": name, "notes": [name]}) for name in names
    ]
    refusals = [Refusal(layer=name, reason=name) for name in names]
    sample = report(
        layers=layers, refusals=refusals, warnings=names, job_id=names[0], recipe=recipe(exclude=names)
    )
    page = render(sample)
    text = visible_text(page)
    assert "<script" not in page.lower()
    assert not set(page) & set("\x00\x1b\x07\u202e\u202d\u2066\u2067\u2068\u2069\u200e\u200f\ufeff")
    assert "x" * 700 not in text


def test_jinja_in_a_name_is_text() -> None:
    page = render(report(warnings=["{{ 7 * 7 }}"]))
    assert "{{ 7 * 7 }}" in page


def test_the_verdict_says_asked_achieved_and_cost() -> None:
    text = visible_text(render(report()))
    assert (
        "90.00 % of the 656,160 prunable weights are zero, as asked; "
        "top-1 accuracy went from 97.22 % to 93.89 %." in text
    )


def test_recoveries_are_told_with_their_gain_and_their_losses_drawn() -> None:
    curve = [
        CurvePoint(step=step, loss=2.0 / step, learning_rate=0.001, validation_loss=1.5 / step)
        for step in (10, 20, 30)
    ]
    healed = [
        RecoveryReport(
            recovery="fine_tune",
            chosen_because="there are 1438 labelled rows to learn from",
            metric="top-1 accuracy",
            before=0.5738,
            after=0.9861,
            steps=629,
            seconds=1.07,
            kept=True,
            remark="validation got no better",
            curve=curve,
        ),
        RecoveryReport(recovery="bias_correction", chosen_because="so asked", seconds=0.1, kept=False),
    ]
    page = render(report(recovery=healed))
    words = " ".join(visible_text(page).split())
    assert "57.38 %98.61 %+41.23 points6291.07 skept" in words
    assert "there are 1438 labelled rows to learn from" in words
    assert "put back" in words
    assert page.count('class="curve faint"') == 1
    assert 'id="recovery"' not in render(report())


def test_rounds_of_one_recovery_are_told_apart() -> None:
    curve = [CurvePoint(step=step, loss=9.0**-step, learning_rate=0.1) for step in (1, 2, 3)]
    healed = [
        RecoveryReport(
            recovery="fine_tune", chosen_because="so asked", seconds=0.1, kept=True, steps=3, curve=curve
        )
        for _ in range(3)
    ]
    page = render(report(recovery=healed))
    words = " ".join(visible_text(page).split())
    assert all(words.count(f"{number} of 3") == 2 for number in (1, 2, 3))  # in the table and over its curve
    assert page.count(">loss (log scale)</text>") == 3
    assert "1 of 1" not in visible_text(render(report(recovery=healed[:1])))


def test_scores_over_powers_of_ten_say_so() -> None:
    words = " ".join(visible_text(render(report())).split())
    assert "scores (log scale)" in words


def test_figures_beside_the_one_that_decides_are_shown() -> None:
    further = [
        MetricReport(metric="top-5 accuracy", before=0.991, after=0.983),
        MetricReport(metric="PSNR", before=31.5, after=30.25),
    ]
    accuracy = AccuracyReport(
        metric="top-1 accuracy", output="y", rows=100, before=0.9, after=0.8, further=further
    )
    text = visible_text(render(report(accuracy=accuracy)))
    assert "99.10 %98.30 %−0.80 points" in " ".join(text.split())
    assert "31.5030.25−1.25" in " ".join(text.split())


def test_a_missed_request_is_not_called_as_asked() -> None:
    text = visible_text(render(report(achieved=0.85)))
    assert "85.00 % of the 656,160 prunable weights are zero (asked for 90.00 %)" in text
    assert "as asked" not in text


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Target(macs=0.25), "asked to keep 25.00 % of the multiply-accumulates"),
        (Target(size_bytes=0.1), "asked to keep 10.00 % of the file size"),
        (Target(accuracy_drop=1.5), "asked to lose at most 1.500 points of accuracy"),
    ],
)
def test_a_target_in_another_unit_is_named(target: Target, words: str) -> None:
    assert words in visible_text(render(report(requested=None, recipe=recipe(target=target))))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Target(macs=0.25), "of the multiply-accumulates; it came to 24.00 %)"),
        (Target(accuracy_drop=1.5), "points of accuracy; it came to 0.2400)"),
    ],
)
def test_what_a_target_came_to_is_said_beside_it(target: Target, words: str) -> None:
    found = report(requested=None, recipe=recipe(target=target), target_achieved=0.24)
    assert words in visible_text(render(found))


def test_removed_weights_are_not_called_zero() -> None:
    text = visible_text(render(report(recipe=recipe(apply=PartSpec(name="shrink")))))
    assert "prunable weights were removed" in text


def test_random_inputs_are_labelled_as_such() -> None:
    sample = report(accuracy=None)
    assert sample.agreement is not None
    random = sample.agreement.model_copy(update={"source": DataSource.RANDOM, "seed": 7})
    text = visible_text(render(sample.model_copy(update={"agreement": random})))
    assert "On random inputs, not on real data" in text
    assert "cosine similarity 0.9612 with those of the original on random inputs." in text


def test_what_was_not_measured_says_so_and_why() -> None:
    absent = {"latency": None, "agreement": None, "accuracy": None, "summary": Summary()}
    reasons = {f"{name}_reason": f"no {name} because" for name in ("latency", "agreement", "accuracy")}
    text = visible_text(render(report(**absent, **reasons)))
    for reason in reasons.values():
        assert f"Not measured: {reason}" in text


def test_three_hundred_layers_are_all_there_most_of_them_folded() -> None:
    layers = [layer(index, (4, 4)) for index in range(300)]
    page = render(report(layers=layers))
    root = as_xml(page)
    numbers = {
        row[0].text for row in root.iter("tr") if row.get("id") is None and (row[0].text or "").isdigit()
    }
    assert numbers == {str(number) for number in range(1, 301)}
    assert len(list(root.iter("figure"))) == 300
    folded = [figure for details in root.iter("details") for figure in details.iter("figure")]
    assert len(folded) == 300 - html.OPEN_DRAWINGS
    assert len(page) < 2_000_000


def test_what_the_page_leaves_to_the_json_is_counted() -> None:
    layers = [layer(index, (2, 2), drawn=False) for index in range(html.MOST_LAYERS + 5)]
    refusals = [Refusal(layer=f"r{index}", reason="no rule") for index in range(html.MOST_ITEMS + 100)]
    exclude = [f"glob{index}" for index in range(1000)]
    text = visible_text(render(report(layers=layers, refusals=refusals, recipe=recipe(exclude=exclude))))
    assert f"The first {html.MOST_LAYERS} of {html.MOST_LAYERS + 5} layers" in text
    assert f"{100 - html.OPEN_NAMES} more in the JSON report" in text
    assert re.search(r"… \d+ more lines in the JSON report", text)


def test_the_devices_that_trained_are_told_where_there_were_several() -> None:
    environment = report().environment
    several = report(environment=environment.model_copy(update={"processes": 4}))
    shown = " ".join(visible_text(render(several)).split())
    assert re.search(r"Trained on ?4 devices, a process on each", shown)
    assert "Trained on" not in visible_text(render(report()))


def test_a_failed_check_is_shown_as_failed() -> None:
    sample = report()
    checks = [sample.checks[0].model_copy(update={"passed": False})]
    text = visible_text(render(sample.model_copy(update={"checks": checks})))
    assert "✗" in text
    assert "failed" in text
    assert "✓" not in text


def test_the_same_report_gives_the_same_page() -> None:
    assert render(report()) == render(report())
