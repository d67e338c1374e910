"""A warm process does what a new one would: arguments, folder, environment, streams and exit code; and ends with whoever asked."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from nandlib.warm import ADDRESS, warm_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
SCRIPT = """
import os, sys
if sys.argv[1] == "say":
    print(sys.argv[1:], os.getcwd(), os.environ["GIVEN"], sys.stdin.read())
    print("to stderr", file=sys.stderr)
elif sys.argv[1] == "code":
    sys.exit(int(sys.argv[2]))
elif sys.argv[1] == "message":
    sys.exit("the reason")
elif sys.argv[1] == "raise":
    raise ValueError("the reason")
elif sys.argv[1] == "remember":
    print(hasattr(sys, "left_behind"))
    sys.left_behind = True
elif sys.argv[1] == "wait":
    import time
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment in which the script is found and a process waits."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "script.py").write_text(SCRIPT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        with warm_processes(["json"]) as warm:
            yield os.environ | warm | {"GIVEN": "a value"}


@pytest.fixture(params=["warm", "cold"])
def start(request, environment, tmp_path) -> Callable[..., subprocess.Popen[str]]:
    """Starts the script with some arguments, in either way."""
    given = environment if request.param == "warm" else {name: value for name, value in environment.items() if name != ADDRESS}

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "nandlib.warm", "script", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=tmp_path, env=given, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    return start


def test_arguments_folder_environment_and_streams(start, tmp_path):
    said, complained = (process := start("say", "two words")).communicate("from stdin")
    assert said.strip() == f"['say', 'two words'] {tmp_path} a value from stdin"
    assert complained.strip() == "to stderr"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "reason"), [(("code", "7"), 7, ""), (("message",), 1, "the reason"), (("raise",), 1, "ValueError")]
)
def test_exit_codes(start, words, code, reason):
    _, complained = (process := start(*words)).communicate()
    assert process.returncode == code
    assert reason in complained


def test_nothing_is_shared(start):
    assert [start("remember").communicate()[0].strip() for _ in range(2)] == ["False", "False"]


def test_the_work_ends_with_whoever_asked_for_it(start):
    process = start("wait")
    assert process.stdout is not None
    worker = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.communicate()
    if worker.is_running():
        worker.wait(20)
    assert not worker.is_running()


def test_a_worker_that_is_killed_is_an_exit_code(start):
    process = start("wait")
    assert process.stdout is not None
    psutil.Process(int(process.stdout.readline())).kill()
    process.communicate()
    assert process.returncode in (-9, 137)


def test_without_the_waiting_process_it_is_done_all_the_same(environment):
    lost = environment | {ADDRESS: f"{sys.executable}{os.pathsep}/nowhere"}
    assert subprocess.run([sys.executable, "-m", "nandlib.warm", "script", "code", "3"], env=lost, check=False).returncode == 3


def test_another_interpreter_s_process_is_not_asked(environment):
    other = environment | {ADDRESS: environment[ADDRESS].replace(sys.executable, "/another/python")}
    assert subprocess.run([sys.executable, "-m", "nandlib.warm", "script", "code", "3"], env=other, check=False).returncode == 3


def test_the_waiting_process_ends_with_its_owner():
    with warm_processes(["json"]) as warm:
        address = warm[ADDRESS].partition(os.pathsep)[2]
        waiting = [child for child in psutil.Process().children() if address in child.cmdline()]
        assert len(waiting) == 1
    assert not waiting[0].is_running()
