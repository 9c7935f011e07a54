"""``python -m worker``: a worker process. With a broker a Celery worker, without one a polling loop."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from types import FrameType
from typing import Any, NoReturn

from celery.signals import setup_logging, worker_ready, worker_shutting_down
from pydantic import ValidationError

from store import Store, open_store
from store.errors import StoreError
from worker import logs, tasks
from worker.app import bell, create_app
from worker.devices import device
from worker.logs import log
from worker.polling import poll
from worker.sandbox import SandboxMode, selftest
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor
from worker.sweeper import Sweeper

_USAGE, _NO_SANDBOX, _NO_STORE = 2, 3, 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until SIGTERM or SIGINT. The exit status is 0, or says why it did not start."""
    options = _options(arguments)
    logs.configure()
    try:
        settings = WorkerSettings(**options)
        store = open_store(settings)
    except ValidationError as error:
        log("settings", level=logging.ERROR, errors=[f"{e['loc']}: {e['msg']}" for e in error.errors()])
        return _USAGE
    except (StoreError, OSError) as error:
        log("store unreachable", level=logging.ERROR, reason=str(error))
        return _NO_STORE
    try:
        return _work(settings, store)
    finally:
        store.close()


def _options(arguments: Sequence[str] | None) -> dict[str, Any]:
    """Settings given on the command line; the others come from the environment."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--data-dir", help="folder of the embedded store")
    parser.add_argument("--broker-url", help="broker that rings for jobs; without one the worker polls")
    parser.add_argument("--sandbox", choices=list(SandboxMode), help="strict unless set otherwise")
    parser.add_argument("--worker-name", help="name in logs, leases and health; unique")
    given = vars(parser.parse_args(arguments))
    return {name: value for name, value in given.items() if value is not None}


def _work(settings: WorkerSettings, store: Store) -> int:
    test = selftest.run(settings.sandbox, settings.scratch)
    log("self-test", worker=settings.worker_name, sandbox=test.describe(), device=device())
    _announce(settings, store, test)
    if settings.sandbox is SandboxMode.STRICT and not test.holds:
        log("no sandbox", level=logging.ERROR, sandbox=test.describe(), hint="LOOKAHEAD_SANDBOX=best_effort")
        return _NO_SANDBOX
    supervisor = Supervisor(store, settings)
    run = _run_polling if settings.broker_url is None else _run_celery
    try:
        run(settings, store, supervisor)
    finally:
        supervisor.close()
        store.workers.retire(settings.worker_name)
        log("stopped", worker=settings.worker_name)
    return 0


def _announce(settings: WorkerSettings, store: Store, test: selftest.SelfTest) -> None:
    detail = {"holds": test.holds, "mode": settings.sandbox.value, "breaches": list(test.breaches)}
    store.workers.announce(
        settings.worker_name, version=_version(), sandbox=test.describe(), device=device(), detail=detail
    )


def _run_polling(settings: WorkerSettings, store: Store, supervisor: Supervisor) -> None:
    _on_signal(supervisor.stop)
    sweeper = Sweeper(store, settings)
    sweeper.start()
    supervisor.prepare()
    log("started", worker=settings.worker_name)
    try:
        poll(supervisor, settings.poll_seconds)
    finally:
        sweeper.close()


def _run_celery(settings: WorkerSettings, store: Store, supervisor: Supervisor) -> None:
    """Celery hears the bell; a thread polls beside it, so that a broker that is away costs seconds only.

    The pool is one thread. With prefork the supervisor would sit in a forked process that Celery, not we,
    signals at shutdown; with solo the broker's connection would be unattended while a job runs.
    """
    app = create_app(str(settings.broker_url))
    tasks.register(app, supervisor)
    sweeper = Sweeper(store, settings, bell(app))
    poller = threading.Thread(target=_poll_beside, args=(supervisor, settings), name="poller", daemon=True)
    setup_logging.connect(lambda **_: None, weak=False)  # a listener keeps Celery from configuring logs
    worker_shutting_down.connect(_stopper(supervisor), weak=False)
    worker_ready.connect(lambda **_: log("started", worker=settings.worker_name), weak=False)
    _on_signal(_leave)  # until Celery sets its own, seconds from now
    sweeper.start()
    poller.start()
    try:
        app.worker_main(["--quiet", "worker", "--pool=threads", "--concurrency=1", *_QUIET])
    finally:
        supervisor.stop()
        sweeper.close()
        poller.join(30)


def _on_signal(act: Callable[[], object]) -> None:
    def handle(_number: int, _frame: FrameType | None) -> None:
        act()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def _leave() -> NoReturn:
    """Unwind to where the supervisor is stopped and closed."""
    raise SystemExit(0)


#: Nothing between workers over the broker: what they have to tell each other is in the store.
_QUIET = ["--without-gossip", "--without-mingle", "--without-heartbeat", f"--queues={tasks.QUEUE}"]


def _poll_beside(supervisor: Supervisor, settings: WorkerSettings) -> None:
    supervisor.prepare()
    poll(supervisor, settings.sweep_seconds, wait=False)


def _stopper(supervisor: Supervisor) -> Callable[..., None]:
    """Celery's warm shutdown waits for the running task, and the supervisor ends it when told to stop."""

    def stop(**_: object) -> None:
        supervisor.stop()

    return stop


def _version() -> str:
    try:
        return version("lookahead-compression")
    except PackageNotFoundError:
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
