"""Processes of their own, whatever becomes of the one that makes them."""

import os
import signal
import threading
import time
from multiprocessing import forkserver

import pytest

from bench import child
from bench.child import messages
from osgan.errors import InputError


def say(connection):
    connection.send("done")


def said():
    with child.child(say) as (_, receiving):
        return list(messages(receiving, time.monotonic() + 60))


def kill_the_server():
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)


@pytest.mark.parametrize("delay_s", [0.0, 0.5])
def test_a_fork_server_that_is_killed_is_replaced(delay_s):
    assert said() == ["done"]
    kill_the_server()
    if delay_s:  # the next one too, while it imports the libraries
        time.sleep(0.2)
        threading.Timer(delay_s, kill_the_server).start()
    assert said() == ["done"]


def test_one_that_never_lives_is_an_error_in_a_sentence(monkeypatch):
    def start(self):
        raise EOFError

    monkeypatch.setattr(child, "RESTARTS_S", (0.0, 0.0))
    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", start)
    with pytest.raises(InputError, match="no process can be started"):
        said()
