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
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

import joblib
from joblib.parallel import ParallelBackendBase  # where those who write backends find it in every version

from ._arguments import whole
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
        jobs: workers side by side; -1 for all cores, or for all that a cluster has when work begins. For a cluster
            that grows later, as many as there will be.
        backend: one of BACKENDS, or any other that joblib knows by its own registration.
        scheduler: address of a Dask scheduler, as tcp://host:port; implies the backend "dask".

    Raises:
        MHeightError: Dask is not installed or the scheduler does not answer.
    """
    if jobs is not None and (isinstance(jobs, bool) or jobs != -1):
        jobs = whole("jobs", jobs, 1, error=MHeightError, more=", or -1 for all cores")
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
    try:
        config = joblib.parallel_config(**settings)
    except ValueError as error:
        near = get_close_matches(str(backend), BACKENDS, 1)
        raise MHeightError(
            f"backend must be one of {', '.join(BACKENDS)} or registered with joblib, got {brief(backend)}"
            + (f"; did you mean {near[0]}?" if near else "")
        ) from error
    with config:
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
        if not client.ncores():
            warnings.warn(f"no worker at {scheduler} yet, waiting for one", stacklevel=5)
            client.wait_for_workers(1)
        yield client
    finally:
        client.close()


class _Unasked(ParallelBackendBase):  # type: ignore[misc]
    """A backend that no work is given to: it answers how many workers were asked for, None where nobody asked."""

    supports_sharedmem = True

    def effective_n_jobs(self, n_jobs: int | None) -> int | None:
        return n_jobs

    def apply_async(self, func: Any, callback: Any = None) -> Any:  # joblib before 1.5 wants one
        raise AssertionError("no work is given to this backend")


def _given() -> int | None:
    """The n_jobs of joblib.parallel_config, as given; None where nobody gave any."""
    with joblib.parallel_config(backend=_Unasked()):
        count: int | None = joblib.effective_n_jobs(None)
    return count


def asked() -> int | None:
    """How many workers somebody asked for, by `workers` or joblib.parallel_config; None where nobody did.

    A backend without a number asks for what it takes by itself: a cluster for all workers, processes for none.
    """
    count = _given()
    taken = int(joblib.effective_n_jobs(count))
    return None if count is None and taken == 1 else taken


def each(
    function: Callable[[Task], Result], tasks: Iterable[Task], jobs: int | None = None
) -> Iterator[tuple[int, Result]]:
    """function(task) of every task by the workers at hand, as they are done: (number of the task, result).

    The function and the tasks must pickle. One that raises ends the whole; results not yet asked for are dropped.

    Args:
        jobs: workers where nobody asked for others; default one, in this process.
    """
    settings = {"n_jobs": jobs} if asked() is None and jobs is not None else {}
    parent = os.getpid()
    calls = (joblib.delayed(_numbered)(function, number, task, parent) for number, task in enumerate(tasks))
    try:
        parallel = joblib.Parallel(return_as="generator_unordered", pre_dispatch=_ahead(), **settings)
    except ValueError:  # Ray's gives lists only
        while chunk := list(islice(calls, 4 * joblib.effective_n_jobs(settings.get("n_jobs")))):
            yield from joblib.Parallel(**settings)(chunk)
        return
    results = parallel(calls)
    try:
        for result in results:  # noqa: UP028  yield from would close the results itself, with a warning
            yield result
    except Exception as error:
        if type(error).__module__.startswith("distributed"):  # as when a scheduler is gone, or worker after worker
            lost = "scheduler-connection-lost" in str(error)
            why = "its scheduler is gone" if lost else f"{type(error).__name__}: {brief(error)}"
            raise MHeightError(f"the cluster gave up, {why}; what was finished stays") from error
        raise
    finally:  # whoever stops early has a reason, and need not hear of work that is dropped
        told, threading.excepthook = threading.excepthook, lambda _: None  # nor what loky's threads stumble over
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results.close()
        finally:
            threading.excepthook = told


def _ahead() -> int | str:
    """How many pieces are sent out at a time. Dask's backend takes all workers that there are or come, whatever number
    was asked for; there, what is sent out bounds them."""
    count = _given()
    if count is not None and count > 0 and joblib.effective_n_jobs(2) == joblib.effective_n_jobs(3):
        return count
    return "3*n_jobs"


def _numbered(function: Callable[[Task], Result], number: int, task: Task, parent: int) -> tuple[int, Result]:
    if os.getppid() == parent and os.name != "nt":  # Windows tells the same parent when that has ended
        _exit_after(parent)
    return number, function(task)


@lru_cache
def _exit_after(parent: int) -> None:
    """Exit soon after the parent dies; a parent killed by SIGKILL cannot stop its workers."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
