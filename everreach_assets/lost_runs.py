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


def process_tag() -> dict[str, str]:
    """The tag for a run in this process."""
    return {PROCESS_TAG: _identity(psutil.Process(os.getpid()))}


def fail_lost_runs(instance: dg.DagsterInstance, *, launcher_is_gone: bool) -> list[str]:
    """Record that runs have failed which are under way without a process; answers their ids.

    Args:
        launcher_is_gone: no daemon's worker can be alive, because no `everreach up` is.
    """
    lost = []
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=UNDER_WAY)):
        of_command = run.tags.get(PROCESS_TAG)
        of_daemon = LAUNCHED_TAG in run.tags and run.status in LAUNCHED
        is_lost = not _is_alive(of_command) if of_command else of_daemon and launcher_is_gone
        if is_lost:
            instance.report_run_failed(run, "Its process ended without a report: it was killed.")
            lost.append(run.run_id)
    return lost


def _is_alive(identity: str) -> bool:
    host, number, _ = identity.split("/")
    if host != platform.node():
        return True  # for all that can be known from here
    with contextlib.suppress(psutil.NoSuchProcess):
        return _identity(psutil.Process(int(number))) == identity
    return False


def _identity(process: psutil.Process) -> str:
    return f"{platform.node()}/{process.pid}/{process.create_time():.2f}"
