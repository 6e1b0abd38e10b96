"""Our programs and the JavaScript peers as child processes, for the lab and the benchmarks.

All of them run in the foreground, print lines, and are ended by `close` (or with the context manager they are in).
"""

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
NODE = os.path.join(ROOT, "interop-tests", "node")
CHANNEL = "lab"


class Failure(Exception):
    """Something did not happen in time, or happened wrongly; the text says what, and what was printed."""


class Program:
    """A child process whose lines are collected."""

    def __init__(self, name, command, env=None, stdin=False):
        self.name = name
        self.lines = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            command, env=env, text=True, errors="replace", bufsize=1,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    @property
    def pid(self):
        return self._process.pid

    @property
    def running(self):
        return self._process.poll() is None

    def _collect(self):
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, what, wanted, seconds=20, start=0):
        """The first result of `wanted(line)` that is not None, looking from line number `start` on."""
        until = time.monotonic() + seconds
        with self._changed:
            while True:
                for line in self.lines[start:]:
                    start += 1
                    found = wanted(line)
                    if found is not None:
                        return found
                left = until - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    raise Failure(f"{what}: not seen within {seconds} s\n{self}")
                self._changed.wait(min(left, 0.5))

    def wait(self, seconds):
        """Exit code."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"still running after {seconds} s\n{self}") from None

    def write(self, line):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def close(self):
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(4)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __str__(self):
        return f"--- {self.name} printed:\n" + "\n".join(self.lines[-30:])


class Peer(Program):
    """A JavaScript daemon of the given dialect that takes errands."""

    def __init__(self, dialect, bootstrap, files=(), host=(), mdns=False, channels=(CHANNEL,), arguments=()):
        command = [*host, "node", os.path.join(NODE, "kachery_peer.js"), "--dialect", dialect, "--commands"]
        for flag, values in (("--channel", channels), ("--bootstrap", bootstrap), ("--file", files)):
            for value in values:
                command += [flag, value]
        super().__init__(f"JavaScript {dialect}", command + [*arguments] + ([] if mdns else ["--no-mdns"]), stdin=True)
        self.event("ready")

    def event(self, *names, seconds=20, start=0):
        def wanted(line):
            event = json.loads(line) if line.startswith("{") else {}
            return event if event.get("event") in names else None
        return self.wait_for(" or ".join(names), wanted, seconds, start)

    def errand(self, line, *names, seconds=20):
        start = len(self.lines)
        self.write(line)
        return self.event(*names, seconds=seconds, start=start)

    def connected(self, peers=1):
        """Waits until that many peers are ready in the channel."""
        self.errand(f"connected {peers}", "connected", seconds=30)

    def load(self, sha1, destination, seconds=300):
        """Seconds from the errand to the verified file."""
        result = self.errand(f"load {sha1} {destination}", "loaded", "failed", seconds=seconds)
        if result["event"] != "loaded":
            raise Failure(f"JavaScript could not load: {result}\n{self}")
        return result["seconds"]

    def find(self, sha1):
        """Milliseconds from the errand to the first provider."""
        return self.errand(f"find {sha1}", "found")["ms"]


class Bootstrap(Program):
    """The original's DHT node."""

    def __init__(self, host=(), address="127.0.0.1"):
        super().__init__("JavaScript bootstrap", [*host, "node", os.path.join(NODE, "bootstrap.js"), "--host", address])
        event = self.wait_for("its address", lambda line: json.loads(line) if line.startswith("{") else None)
        self.at = f"{event['host']}:{event['port']}"


class Daemon(Program):
    """Our daemon with a folder of its own."""

    def __init__(self, binaries, folder, bootstrap, host=(), mdns=False, channels=(CHANNEL,), api_port=None):
        self.binaries, self.folder, self.host = binaries, folder, list(host)
        self.storage = os.path.join(folder, "store")
        self.api_port = api_port or free_port()
        os.makedirs(self.storage, exist_ok=True)
        arguments = [flag for channel in channels for flag in ("--channel", channel)]
        arguments += [flag for address in bootstrap for flag in ("--bootstrap-v2", address)]
        arguments += [] if mdns else ["--no-mdns"]
        arguments += ["--config-dir", os.path.join(folder, "config"), "--storage-dir", self.storage]
        super().__init__("our daemon", self.command("kachery-p2p", "daemon-start", *arguments, "--api-port", str(self.api_port)), self.env())
        self.wait_for("its ready line", lambda line: line if line.startswith("daemon ready:") else None)

    def command(self, program, *arguments):
        return [*self.host, os.path.join(self.binaries, program), *arguments]

    def env(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KACHERY_")}
        return {**kept, "HOME": self.folder, "KACHERY_STORAGE_DIR": self.storage, "KACHERY_P2P_API_PORT": str(self.api_port)}

    def run(self, program, *arguments, seconds=300):
        """Standard output of one of our commands; a Failure with its standard error otherwise."""
        done = subprocess.run(self.command(program, *arguments), env=self.env(), capture_output=True, text=True, timeout=seconds)
        if done.returncode != 0:
            raise Failure(f"{program} {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}\n{self}")
        return done.stdout

    def connected(self, peers=1, seconds=30):
        """Waits until that many peers are connected in one of its channels."""
        until = time.monotonic() + seconds
        while True:
            for line in self.run("kachery-p2p", "get-channels").splitlines():
                _, _, count = line.rpartition(":")
                if int(count.split()[0]) >= peers:
                    return
            if time.monotonic() > until:
                raise Failure(f"fewer than {peers} peers after {seconds} s\n{self}")
            time.sleep(0.1)

    def store(self, path):
        self.run("kachery-store", path)

    def load(self, sha1, destination, timeout=60):
        """Seconds from the start of the command to its end."""
        started = time.monotonic()
        printed = self.run("kachery-p2p", "load", f"sha1://{sha1}/file", "--dest", destination, "--timeout", str(timeout))
        if printed.strip() != destination:
            raise Failure(f"load printed {printed!r} instead of {destination!r}")
        return time.monotonic() - started

    def find(self, sha1):
        """Milliseconds from the HTTP request to the first provider in the answer; on this host only."""
        started = time.monotonic()
        body = json.dumps({"fileKey": {"sha1": sha1}}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.api_port}/findFile", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            digits = b""
            while not digits.endswith(b"#"):
                byte = answer.read(1)
                if not byte:
                    raise Failure(f"nothing found\n{self}")
                digits += byte
            answer.read(int(digits[:-1]))
            return (time.monotonic() - started) * 1000


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_file(path, size, seed):
    """Writes `size` pseudo-random bytes; returns their sha1."""
    source, digest = random.Random(seed), hashlib.sha1()
    with open(path, "wb") as file:
        while size > 0:
            block = source.randbytes(min(size, 1 << 20))
            digest.update(block)
            file.write(block)
            size -= len(block)
    return digest.hexdigest()


def sha1_of(path):
    digest = hashlib.sha1()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def node_ready():
    """Why the JavaScript peers cannot run, or None."""
    if not shutil.which("node"):
        return "needs Node.js 18 or later (Debian: apt-get install nodejs npm)"
    if not os.path.isdir(os.path.join(NODE, "node_modules", "hyperswarm")):
        return "needs the npm packages: run npm ci in interop-tests/node"
    return None


def build(release):
    """Builds our programs; returns the folder they are in."""
    # All packages, so that what the tests have compiled is used again.
    command = ["cargo", "build", "--locked", "--workspace", "--bins", "--example", "connect"]
    subprocess.run([*command, *(["--release"] if release else [])], cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    return os.path.join(target, "release" if release else "debug")
