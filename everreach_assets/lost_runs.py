"""Runs of Dagster whose process is gone: Dagster's default launcher does not see that a worker died.

Such a run would hold its place in the queue, and the sensor would wait for it, until `max_runtime_seconds`. What does
not belong here: processes of ours other than those of runs (`supervisor.py`).
"""

import contextlib
import os
import platform

import dagster as dg
import psutil

LAUNCHED_TAG = ".dagster/grpc_info"
"""On runs that the daemon launched through a code server."""

PROCESS_TAG = "everreach/process"
"""On runs that said which process they are in: its host, its number, and when it began, which tells it from a later."""

LAUNCHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
UNDER_WAY = [dg.DagsterRunStatus.NOT_STARTED, *LAUNCHED]  # a command may be killed before its run has started


def process_tag(run_id: str = "") -> dict[str, str]:
    """The tag for a run in this process.

    Args:
        run_id: of the run, where it is known already: a retry takes over the tags of the run that was killed.
    """
    identity = _identity(psutil.Process(os.getpid()))
    return {PROCESS_TAG: f"{identity}//{run_id}" if run_id else identity}


def fail_lost_runs(instance: dg.DagsterInstance, *, launcher_is_gone: bool) -> list[str]:
    """Record that runs have failed which are under way without a process; answers their ids.

    Args:
        launcher_is_gone: no daemon's worker can be alive, because no `everreach up` is.
    """
    lost = []
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=UNDER_WAY)):
        process = _process(run)
        of_daemon = LAUNCHED_TAG in run.tags and run.status in LAUNCHED
        is_lost = not _is_alive(process) if process else of_daemon and launcher_is_gone
        if is_lost:
            instance.report_run_failed(run, "Its process ended without a report: it was killed.")
            lost.append(run.run_id)
    return lost


def _process(run: dg.DagsterRun) -> str | None:
    """The process that the run itself noted; the tag of a retry that has not begun is of the run before it."""
    identity, _, of_run = run.tags.get(PROCESS_TAG, "").partition("//")
    return identity if identity and (of_run == run.run_id if of_run else run.parent_run_id is None) else None


def _is_alive(identity: str) -> bool:
    host, number, _ = identity.split("/")
    if host != platform.node():
        return True  # for all that can be known from here
    with contextlib.suppress(psutil.NoSuchProcess):
        return _identity(psutil.Process(int(number))) == identity
    return False


def _identity(process: psutil.Process) -> str:
    return f"{platform.node()}/{process.pid}/{process.create_time():.2f}"
