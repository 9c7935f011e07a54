"""Instants keep their microseconds, and both databases tell the time."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from store import Store
from store.clock import from_micros, from_now, now, to_micros

_AWARE = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7))]))


@given(_AWARE.filter(lambda moment: 1 < moment.year < 9999))
def test_microseconds_there_and_back(moment: datetime) -> None:
    assert from_micros(to_micros(moment)) == moment


def test_the_database_tells_the_time_in_utc(store: Store) -> None:
    with store._database.engine.connect() as connection:
        told, later = connection.execute(select(now(), from_now(1.5))).one()
    assert abs(told - datetime.now(UTC)) < timedelta(minutes=1)
    assert timedelta(seconds=1.49) < later - told < timedelta(seconds=1.6)
    assert told.tzinfo is UTC


def test_the_database_s_clock_moves_on(store: Store) -> None:
    with store._database.engine.connect() as connection:
        moments = [connection.execute(select(now())).scalar_one() for _ in range(50)]
    assert moments == sorted(moments)
