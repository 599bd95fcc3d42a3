"""Waiting for what comes about in its own time: never a fixed sleep."""

import time


def eventually(check, seconds=20, what="the condition"):
    """Waits until `check()` is true and returns what it said."""
    deadline = time.monotonic() + seconds
    while True:
        seen = check()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"{what} did not come about in {seconds} s"
        time.sleep(0.05)
