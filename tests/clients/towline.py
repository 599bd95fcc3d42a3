"""Starts the real thing on free ports in a throw-away folder. The only file that knows how."""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
START_SECONDS = 30


def binary():
    """The `towline` under test: $TOWLINE, or the debug build of this tree."""
    return pathlib.Path(os.environ.get("TOWLINE", TARGET / "debug" / "towline"))


class Towline:
    """One running `towline up`. `kafka`, `registry` and `connect` are HOST:PORT."""

    def __init__(self):
        self.data = pathlib.Path(tempfile.mkdtemp(prefix="towline-clients-"))
        self._log = self.data / "towline.log"
        self._process = None
        try:
            self._start_on_free_ports()
        except BaseException:
            self.stop()
            raise

    def _start_on_free_ports(self):
        # Another process may take a port between the look and the bind, so a failed start is tried again.
        for _ in range(3):
            self.kafka, self.registry, self.connect, self.ui = (f"127.0.0.1:{port}" for port in free_ports(4))
            self.start()
            if self.wait_until_ready():
                return
            self._process.kill()
            self._process.wait()
        raise RuntimeError(f"{binary()} did not start:\n{self.log()}")

    def start(self):
        """Starts the process on the addresses and the folder that it had before."""
        arguments = ["up", "--data-dir", self.data / "data", "--kafka", self.kafka, "--registry", self.registry]
        arguments += ["--connect", self.connect, "--ui", self.ui]
        if binary().name == "up":  # The scratch example, until the binary has commands.
            arguments = [self.data / "data", self.kafka.rsplit(":", 1)[1]]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen([binary(), *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait_until_ready(self):
        """True when all three parts answer; False when the process ended or time ran out."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if all(answers(url) for url in (f"http://{self.registry}/subjects", f"http://{self.connect}/")):
                return reachable(self.kafka)
            time.sleep(0.05)
        return False

    def kill(self):
        """kill -9: what a crash leaves is what the next `start` finds."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self):
        """Stops the process as a service manager would and removes the folder."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.data, ignore_errors=True)

    def log(self):
        """The end of what the process printed, for a failed test."""
        return self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""


def free_ports(count):
    """Neighbouring ports that nobody listens on now, below the range from which systems give ports away."""
    while True:
        first = random.randrange(20000, 32000)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return range(first, first + count)


def answers(url):
    """Whether an HTTP server there says 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


def reachable(address):
    """Whether something listens there."""
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except OSError:
        return False
