"""Many independent pieces of work, by whatever backend joblib has: processes, threads, or a Dask cluster.

Nothing here decides how work is cut: pieces are numbered before anybody knows who does them, so the number of workers,
their order and their deaths change no result.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

import joblib

from .errors import MHeightError, brief

BACKENDS = ("loky", "threading", "dask")

PATIENCE = 10.0
"""Seconds to wait for a scheduler."""

Task = TypeVar("Task")
Result = TypeVar("Result")


@contextmanager
def workers(jobs: int | None = None, backend: str | None = None, scheduler: str | None = None) -> Iterator[None]:
    """Within it `each` and all trainings use these workers; without arguments, those of joblib.parallel_config.

    Args:
        jobs: workers side by side; -1 for all cores, or all of a cluster.
        backend: one of BACKENDS, or any other that joblib knows by its own registration.
        scheduler: address of a Dask scheduler, as tcp://host:port; implies the backend "dask".

    Raises:
        MHeightError: Dask is not installed or the scheduler does not answer.
    """
    if jobs == 0:
        raise MHeightError("jobs must be at least 1, or -1 for all cores")
    if scheduler is not None or backend == "dask":
        if backend not in (None, "dask"):
            raise MHeightError(f"a scheduler is for the backend dask, not {brief(backend)}")
        if scheduler is None:
            raise MHeightError("the backend dask needs the address of a scheduler, like tcp://host:8786")
        with _client(scheduler), joblib.parallel_config(backend="dask", n_jobs=-1 if jobs is None else jobs):
            yield
        return
    settings: dict[str, Any] = {} if backend is None else {"backend": backend}
    if jobs is not None or backend is not None:
        settings["n_jobs"] = -1 if jobs is None else jobs
    with joblib.parallel_config(**settings):
        yield


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    try:
        from distributed import Client  # noqa: PLC0415  an extra
    except ImportError as error:
        raise MHeightError("a Dask scheduler needs dask and distributed: pip install 'moe-mheight[dask]'") from error
    try:
        client = Client(scheduler, timeout=PATIENCE, set_as_default=True)
    except (OSError, TimeoutError, ValueError) as error:
        raise MHeightError(f"no Dask scheduler answers at {brief(scheduler)}: {brief(error)}") from error
    try:
        yield client
    finally:
        client.close()


def asked() -> int | None:
    """How many workers somebody asked for, by `workers` or joblib.parallel_config; None where nobody did."""
    backend, count = joblib.parallel.get_active_backend()
    if count is None and type(backend) is joblib.parallel.BACKENDS[joblib.parallel.DEFAULT_BACKEND]:
        return None
    return int(joblib.effective_n_jobs(count))


def each(
    function: Callable[[Task], Result], tasks: Iterable[Task], jobs: int | None = None
) -> Iterator[tuple[int, Result]]:
    """function(task) of every task by the workers at hand, as they are done: (number of the task, result).

    The function and the tasks must pickle. One that raises ends the whole; results not yet asked for are dropped.

    Args:
        jobs: workers where nobody asked for others; default one, in this process.
    """
    settings = {"n_jobs": jobs} if asked() is None and jobs is not None else {}
    owner = os.getpid()
    calls = (joblib.delayed(_numbered)(function, number, task, owner) for number, task in enumerate(tasks))
    backend, count = joblib.parallel.get_active_backend()
    if getattr(backend, "supports_return_generator", False):
        parallel = joblib.Parallel(return_as="generator_unordered", pre_dispatch="3*n_jobs", **settings)
        results = parallel(calls)
        try:
            for result in results:  # noqa: UP028  yield from would close the results itself, with a warning
                yield result
        finally:  # whoever stops early has a reason, and need not hear of work that is dropped
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results.close()
        return
    while some := list(islice(calls, 4 * joblib.effective_n_jobs(count))):  # Ray's gives lists only
        yield from joblib.Parallel(**settings)(some)


def _numbered(function: Callable[[Task], Result], number: int, task: Task, owner: int) -> tuple[int, Result]:
    if os.getppid() == owner:
        _end_with(owner)
    return number, function(task)


@lru_cache
def _end_with(owner: int) -> None:
    """End this process, a worker, soon after the one that it works for: killed, that one cannot tell its workers."""

    def watch() -> None:
        while os.getppid() == owner:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
