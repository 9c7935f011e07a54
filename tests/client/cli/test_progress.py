"""Progress: who sees what."""

import io
from typing import Any

import pytest
from rich.console import Console

from api_schemas.events import Event
from client.cli import progress, screen
from client.cli.progress import Bar, Lines, Quiet, Reporter, megabytes, reporter
from tests.client import answers

EVENTS = [
    answers.event(1, "status", status="running"),
    answers.event(2, "stage", stage="scoring"),
    answers.event(3, "stage", stage="scoring"),
    answers.event(4, "progress", done=3, total=8, unit="layers"),
    answers.event(5, "progress", done=4),
    answers.event(6, "metric", name="loss", value=1.0),
    answers.event(7, "warning", message="odd\x1b[2J"),
    answers.event(8, "metric", name="accuracy\x1b[2J", value=0.98765, step=12),
    answers.event(9, "checkpoint", action="saved", size_bytes=5),
    answers.event(10, "checkpoint", action="resumed", size_bytes=5),
]


def _play(told: Reporter) -> None:
    with told:
        told.bytes_moved(1, 2)
        told.bytes_moved(2_500_000, None)
        for event in EVENTS:
            told.event("job", Event.model_validate(event))


def test_lines_say_each_step_once(capsys: pytest.CaptureFixture[str]) -> None:
    _play(Lines())
    assert capsys.readouterr().err == (
        "running\nscoring\nwarning: odd\N{REPLACEMENT CHARACTER}[2J\nresumed from a checkpoint\n"
        "  loss 1; step 12: accuracy\N{REPLACEMENT CHARACTER}[2J 0.9877\n"
    )


def test_a_log_gets_readings_now_and_then_and_the_last_of_each_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    lines = Lines(lambda: now[0])
    lines.step("recovering")
    for step in range(1, 101):
        now[0] = step / 4
        lines.measured("loss", 1 / step, step)
        lines.measured("rate", 0.001, step)
    lines.measured("accuracy", 0.5, 99)
    lines.step("verifying")
    lines.close()
    assert capsys.readouterr().err.splitlines() == [
        "recovering",
        "  step 40: loss 0.025; step 39: rate 0.001",
        "  step 80: loss 0.0125; step 79: rate 0.001",
        "  step 100: loss 0.01, rate 0.001; step 99: accuracy 0.5",
        "verifying",
    ]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    _play(Quiet())
    assert capsys.readouterr() == ("", "")


def test_a_bar_leaves_only_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    screen_file = io.StringIO()
    console = Console(file=screen_file, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(screen, "errors_console", lambda: console)
    bar = Bar()
    shown: list[str] = []
    real = bar._progress.update
    monkeypatch.setattr(
        bar._progress, "update", lambda *a, **k: (shown.append(k["figures"]), real(*a, **k))[1]
    )
    _play(bar)
    accuracy = "accuracy\N{REPLACEMENT CHARACTER}[2J 0.9877"
    assert shown == ["0.0 kB of 0.0 kB", "2.5 MB", "3/8 layers", "4", "4  loss 1", f"4  loss 1, {accuracy}"]
    assert "warning: odd\N{REPLACEMENT CHARACTER}[2J" in screen_file.getvalue()
    assert bar._progress.finished or not bar._progress.live.is_started


@pytest.mark.parametrize(
    ("quiet", "terminal", "kind"), [(True, True, Quiet), (False, False, Lines), (False, True, Bar)]
)
def test_which_one(monkeypatch: pytest.MonkeyPatch, quiet: bool, terminal: bool, kind: type[Any]) -> None:
    file = io.StringIO()
    monkeypatch.setattr(file, "isatty", lambda: terminal)
    monkeypatch.setattr(progress.sys, "stderr", file)
    monkeypatch.setattr(screen, "errors_console", lambda: Console(file=file, force_terminal=terminal))
    found = reporter(quiet=quiet)
    found.close()
    assert type(found) is kind


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0.0 kB"), (99_999, "100.0 kB"), (100_000, "0.1 MB"), (2_000_000_000, "2000.0 MB")],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert megabytes(count) == text
