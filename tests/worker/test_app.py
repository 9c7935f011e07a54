"""The Celery application is a doorbell: the settings that make it one, and a task that cannot fail."""

import pytest

from worker import tasks
from worker.app import bell, create_app
from worker.supervisor import Supervisor


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"])
def test_configuration(url: str) -> None:
    conf = create_app(url).conf
    assert conf.task_acks_late is False
    assert conf.task_ignore_result is True and conf.result_backend is None
    assert conf.worker_prefetch_multiplier == 1 and conf.worker_disable_prefetch is True
    assert conf.task_serializer == "json" and list(conf.accept_content) == ["json"]
    assert conf.task_default_queue == "lookahead"
    assert conf.broker_connection_timeout <= 5 and conf.broker_pool_acquire_timeout <= 5
    assert conf.broker_transport_options["socket_timeout"] <= 5
    assert conf.broker_transport_options["socket_connect_timeout"] <= 5


def test_a_bell_on_a_dead_broker_is_no_error() -> None:
    bell(create_app("redis://127.0.0.1:1/0"))("job_one")


class Broken:
    def drain(self, job_id: str) -> int:
        raise self.error

    def __init__(self, error: BaseException) -> None:
        self.error = error


@pytest.mark.parametrize("error", [MemoryError(), SystemExit(1), KeyboardInterrupt(), RuntimeError("x")])
def test_nothing_leaves_the_task(error: BaseException) -> None:
    supervisor: Supervisor = Broken(error)  # type: ignore[assignment]
    app = create_app("memory://")
    tasks.register(app, supervisor)
    assert app.tasks["lookahead.run"].run("job_one") is None
    assert app.tasks["lookahead.run"].acks_late is False
