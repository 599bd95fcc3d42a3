"""The test's side of member.py."""

import json
import pathlib
import subprocess
import sys
import threading


class Member:
    """A group member in another process; `partitions` and `values` follow what it prints."""

    def __init__(self, kafka, group, topic, strategy="range"):
        script = pathlib.Path(__file__).with_name("member.py")
        self.partitions, self.values = [], []
        self._process = subprocess.Popen(
            [sys.executable, script, kafka, group, topic, strategy], stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def _follow(self):
        for line in self._process.stdout:
            said = json.loads(line)
            self.partitions = said.get("partitions", self.partitions)
            if "value" in said:
                self.values.append(said["value"])

    def kill(self):
        """Ends it without a goodbye: the group learns of it by silence."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
