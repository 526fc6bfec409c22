"""What every part of the stand needs: waiting for a condition, free ports."""

import os
import random
import socket
import time

# How slow a machine may be: multiplies every time limit.
SLOW = float(os.environ.get("RIG_SLOW", "1"))


class Failed(Exception):
    """Something did not come about; its text says what, and what was seen."""


def wait_until(condition, what, seconds=15):
    """Poll condition() until it is true and return its value.  what: a text, or
    a function that gives one when it is needed."""
    end = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise Failed("not within %g s: %s" % (
                seconds * SLOW, what() if callable(what) else what))
        time.sleep(0.02)


def free_port(host="127.0.0.1"):
    """A TCP port that nobody listens on now, and that the kernel gives to no
    client: a broker that is away for a moment must get its port again."""
    while True:
        port = random.randint(12000, 31999)
        with socket.socket() as s:
            try:
                s.bind((host, port))
            except OSError:
                continue
            return port
