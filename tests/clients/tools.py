"""Foreign command-line programs: kcat, and Apache Kafka's own tools in Java."""

import fcntl
import hashlib
import os
import shutil
import subprocess

import pytest

from towline import ROOT, TARGET

_JAVA_SOURCE = ROOT / "tests" / "clients" / "java"
_JAVA_OUT = TARGET / "clients" / "java"


def run(command, stdin="", timeout=40, check=True):
    """Runs a program to its end; its output on failure is the message."""
    done = subprocess.run(
        [str(part) for part in command], input=stdin, capture_output=True, text=True, timeout=timeout
    )
    if check:
        assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def needs(*programs):
    """Marks a module's tests to be skipped, with a message, where a program is absent."""
    absent = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)} (run `make setup`)")


def java_class_path():
    """Compiles our Java checks and fetches Kafka's tools once for a state of the sources; processes wait in turn."""
    sources = sorted([_JAVA_SOURCE / "pom.xml", *_JAVA_SOURCE.glob("src/main/java/*.java")])
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    _JAVA_OUT.mkdir(parents=True, exist_ok=True)
    stamp = _JAVA_OUT / "built"
    with open(_JAVA_OUT / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != digest:
            maven = ["mvn", "-B", "-q", "-f", _JAVA_SOURCE, f"-Dout={_JAVA_OUT}"]
            run([*maven, "compile", "dependency:copy-dependencies"], timeout=300)
            stamp.write_text(digest)
    return f"{_JAVA_OUT}/classes{os.pathsep}{_JAVA_OUT}/lib/*"


def java(main_class, *arguments, **options):
    """Runs a Java program on that class path, tuned to start fast."""
    jvm = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx256m"]
    logging = ["-Dlog4j2.level=ERROR", "-Dlog4j2.StatusLogger.level=OFF"]
    return run([*jvm, *logging, "-cp", java_class_path(), main_class, *arguments], **options)
