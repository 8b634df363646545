"""Runs whose process is gone are recorded as failed, and those of living processes are left alone."""

import os
import subprocess
import sys

import dagster as dg
import psutil

from everreach_assets.lost_runs import LAUNCHED_TAG, PROCESS_TAG, fail_lost_runs, process_tag

STARTED = dg.DagsterRunStatus.STARTED


def run_with(instance: dg.DagsterInstance, tags: dict[str, str], status: dg.DagsterRunStatus = STARTED) -> str:
    @dg.op
    def nothing() -> None: ...

    @dg.job
    def job() -> None:
        nothing()

    return instance.create_run_for_job(job, tags=tags, status=status).run_id


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_run_of_a_killed_command_fails_and_that_of_a_living_one_goes_on(instance: dg.DagsterInstance) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        began = psutil.Process(process.pid).create_time()
        of_killed = {PROCESS_TAG: f"{os.uname().nodename}/{process.pid}/{began:.2f}"}
        runs = [run_with(instance, tags) for tags in (of_killed, process_tag(), {})]
        assert fail_lost_runs(instance, launcher_is_gone=True) == []
        process.kill()
    assert fail_lost_runs(instance, launcher_is_gone=True) == runs[:1]
    assert [status_of(instance, run) for run in runs] == [dg.DagsterRunStatus.FAILURE, STARTED, STARTED]
    assert fail_lost_runs(instance, launcher_is_gone=True) == []


def test_a_run_that_its_killed_command_had_yet_to_start_is_lost_too(instance: dg.DagsterInstance) -> None:
    run = run_with(instance, {PROCESS_TAG: f"{os.uname().nodename}/1/12.00"}, dg.DagsterRunStatus.NOT_STARTED)
    assert fail_lost_runs(instance, launcher_is_gone=False) == [run]


def test_a_later_process_of_the_same_number_is_another_one(instance: dg.DagsterInstance) -> None:
    run = run_with(instance, {PROCESS_TAG: f"{os.uname().nodename}/{os.getpid()}/12.00"})
    assert fail_lost_runs(instance, launcher_is_gone=False) == [run]


def test_a_run_of_another_host_is_left_alone(instance: dg.DagsterInstance) -> None:
    run_with(instance, {PROCESS_TAG: "another-host/1/12.00"})
    assert fail_lost_runs(instance, launcher_is_gone=True) == []


def test_a_run_of_the_daemon_is_lost_only_where_no_daemon_is(instance: dg.DagsterInstance) -> None:
    run = run_with(instance, {LAUNCHED_TAG: "{}"})
    run_with(instance, {LAUNCHED_TAG: "{}"}, dg.DagsterRunStatus.NOT_STARTED)
    assert fail_lost_runs(instance, launcher_is_gone=False) == []
    assert fail_lost_runs(instance, launcher_is_gone=True) == [run]


def test_the_retry_of_a_killed_run_is_not_lost_though_it_has_the_tags_of_that_run(instance: dg.DagsterInstance) -> None:
    dead = f"{os.uname().nodename}/1/12.00"
    killed = run_with(instance, {})
    instance.add_run_tags(killed, {PROCESS_TAG: f"{dead}//{killed}"})
    retry = run_with(instance, {PROCESS_TAG: f"{dead}//{killed}"})
    assert fail_lost_runs(instance, launcher_is_gone=False) == [killed]
    instance.add_run_tags(retry, process_tag(retry))
    assert fail_lost_runs(instance, launcher_is_gone=False) == []
    instance.add_run_tags(retry, {PROCESS_TAG: f"{dead}//{retry}"})
    assert fail_lost_runs(instance, launcher_is_gone=False) == [retry]
