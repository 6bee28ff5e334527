"""Several processes that run one study together, on JAX's distributed runtime.

Each process runs the whole program, on its part of each array. The first process has the folder of
the run. The others work in a copy of it that is thrown away at the end; only the checkpoints, which
all processes write together, are in the first one's folder. It must be on a disk that all share.

If a process is lost, JAX ends the others when it has not been heard of for `LOST` seconds. The run
can then be resumed, by any number of processes, from its last checkpoint.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxdescent import sharding

PATIENCE = 60
"""Seconds to wait for the coordinator, and for the other processes."""
LOST = 30
"""Seconds after which a process that is not heard of is lost."""
AUTOMATIC = "auto"
"""Value of --coordinator by which JAX asks SLURM, Kubernetes or Open MPI."""

# A process that is ended by JAX's runtime cannot say why, so another program waits for its end.
_MOURNER = """
import sys
message = ""
for line in sys.stdin:
    message = line
if message.strip():
    print(message, end="", file=sys.stderr, flush=True)
"""


class ProcessError(Exception):
    """The processes cannot work together; the message is one line that says what to do."""


def is_first() -> bool:
    """True in the process that writes the run's folder; the only one, if there is one."""
    return jax.process_index() == 0


@contextlib.contextmanager
def joined(coordinator: str, processes: int | None, process: int | None) -> Iterator[None]:
    """Connects this process with the others, inside of the `with` statement.

    Args:
      coordinator: HOST:PORT on which the first process waits for the others, or "auto".
      processes: number of processes; known with "auto".
      process: number of this process, from 0; known with "auto".

    Raises:
      ProcessError: the arguments are wrong, or there is no coordinator.
    """
    last_words = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _MOURNER], stdin=subprocess.PIPE, text=True, start_new_session=True
    )

    def say(message: str) -> None:
        assert last_words.stdin  # noqa: S101
        last_words.stdin.write(message + "\n")
        last_words.stdin.flush()

    try:
        if coordinator == AUTOMATIC:
            say("a process did not arrive: see the messages of JAX above")
            options: dict[str, Any] = {}
        else:
            host, port = _checked(coordinator, processes, process)
            if process:
                _wait_for(host, port)
            say(
                f"not all {processes} processes arrived at {coordinator} within {PATIENCE} s; "
                "start each with its own --process"
            )
            options = {
                "coordinator_address": coordinator,
                "num_processes": processes,
                "process_id": process,
            }
        # On a CPU programs would run at the same time, and their messages would get mixed up.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        try:
            jax.distributed.initialize(
                **options, initialization_timeout=PATIENCE, heartbeat_timeout_seconds=LOST
            )
        except (RuntimeError, ValueError) as error:
            line = str(error).split("\n")[0]
            raise ProcessError(f"--coordinator {coordinator} cannot be used: {line}") from error
        say(
            "this process was ended because another one was lost; resume the run with --resume, "
            "with as many processes as there are now"
        )
        yield
        jax.distributed.shutdown()
        say("")
    except BaseException:
        say("")  # Python says what happened
        raise
    finally:
        assert last_words.stdin  # noqa: S101
        last_words.stdin.close()
        last_words.wait()


def _checked(coordinator: str, processes: int | None, process: int | None) -> tuple[str, int]:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ProcessError(f"--coordinator must be HOST:PORT or auto, got {coordinator!r}")
    if processes is None or processes < 1:
        raise ProcessError(f"--processes must be in [1, inf) with --coordinator, got {processes}")
    if process is None or not 0 <= process < processes:
        raise ProcessError(
            f"--process must be in [0, {processes}), a different number in each process, "
            f"got {process}"
        )
    return host, int(port)


def _wait_for(host: str, port: int) -> None:
    """Waits until the coordinator answers."""
    began = time.monotonic()
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError as error:
            if time.monotonic() - began > PATIENCE:
                raise ProcessError(
                    f"no coordinator answers at {host}:{port} within {PATIENCE} s "
                    f"({error.strerror or error}); start the process with --process 0 there"
                ) from error
            time.sleep(0.5)
        else:
            return


def from_first(compute: Callable[[], Any]) -> Any:
    """Returns JSON that the first process computes, in all processes."""
    if jax.process_count() == 1:
        return compute()
    text = json.dumps(compute()).encode() if is_first() else b""
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    buffer = np.zeros(length, np.uint8)
    buffer[: len(text)] = np.frombuffer(text, np.uint8)
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(buffer)))


def any_true(*flags: bool) -> list[bool]:
    """Returns for each flag whether it is True in any process."""
    if jax.process_count() == 1:
        return [*flags]
    gathered = multihost_utils.process_allgather(np.array(flags))
    return [bool(flag) for flag in gathered.any(axis=0)]


def wait_for_all(name: str) -> None:
    """Waits until all processes are at this point of the program."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def on_host(tree: Any) -> Any:
    """Returns the tree with arrays of which this process has a part only as whole NumPy arrays."""
    return jax.tree.map(sharding.whole, tree)


def copy_of(folder: Path) -> Path:
    """Returns a copy of a run's folder without its checkpoints, which `discard` removes."""
    copy = Path(tempfile.mkdtemp(prefix="jaxdescent-")) / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("checkpoints", "lock"))
    return copy


def discard(copy: Path) -> None:
    """Removes a copy that `copy_of` made."""
    shutil.rmtree(copy.parent, ignore_errors=True)


def silence() -> None:
    """Sends what this process prints to nowhere: the first one prints the same."""
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
