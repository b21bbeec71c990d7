"""An S3 server on loopback, and a proxy before it that counts and delays requests, and goes away on request."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BUCKET = "models"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "a-key-id-of-tests",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-tests",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def config_for(address: str) -> dict[str, str]:
    """TileDB's parameters for a server at that address."""
    return {
        "vfs.s3.endpoint_override": address,
        "vfs.s3.scheme": "http",
        "vfs.s3.use_virtual_addressing": "false",
        "vfs.s3.region": "us-east-1",
        "vfs.s3.connect_max_tries": "2",
        "vfs.s3.connect_timeout_ms": "3000",
        "vfs.s3.request_timeout_ms": "3000",
    }


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of an S3 server with one empty bucket; the environment has its credentials within the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", address.partition(":")[2]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    try:
        for _ in range(300):
            try:
                request = urllib.request.Request(f"http://{address}/{BUCKET}", method="PUT")
                urllib.request.urlopen(request, timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, "the server stopped"
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class Proxy:
    """A proxy in a process of its own: TileDB does not let go of the interpreter while it waits for an answer.

    Parameters
    ----------
    target : str
        Address of an HTTP server.
    delay_seconds : float
        Added to each request.
    """

    def __init__(self, target: str, *, delay_seconds: float = 0.0) -> None:
        command = [sys.executable, "-m", "tests.integration.loopback", target, str(delay_seconds)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self._read()

    def go_away(self) -> None:
        """Cut every connection, and answer none."""
        self._tell("down")

    def come_back(self) -> None:
        """Pass connections on again."""
        self._tell("up")

    def delay(self, seconds: float) -> None:
        """Hold each request back for so long from now on."""
        self._tell(f"delay {seconds}")

    def requests(self) -> dict[str, int]:
        """How many there were of each method since this was asked before."""
        found: dict[str, int] = json.loads(self._tell("requests"))
        return found

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _tell(self, command: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class _Relay:
    """What runs in that process."""

    _REQUEST = re.compile(rb"(?:^|\n)(GET|PUT|POST|HEAD|DELETE) \S+ HTTP/1\.1\r\n")

    def __init__(self, target: str, delay_seconds: float) -> None:
        self._target = target.partition(":")[0], int(target.partition(":")[2])
        self._delay_seconds, self._is_down = delay_seconds, False
        self._requests: Counter[str] = Counter()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))

    def run(self) -> None:
        """Take commands until there are no more."""
        threading.Thread(target=self._accept, daemon=True).start()
        self._say(f"127.0.0.1:{self._listener.getsockname()[1]}")
        for line in sys.stdin:
            command = line.strip()
            if command == "requests":
                found, self._requests = self._requests, Counter()
                self._say(json.dumps(found))
                continue
            if command.startswith("delay "):
                self._delay_seconds = float(command.removeprefix("delay "))
                self._say(command)
                continue
            self._is_down = command == "down"
            for connection in list(self._open) if self._is_down else []:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._say(command)

    @staticmethod
    def _say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._is_down:
                connection.close()
                continue
            server = socket.create_connection(self._target)
            for one in (connection, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open |= {connection, server}
            threading.Thread(target=self._pass, args=(connection, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, connection, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_request: bool) -> None:
        with suppress(OSError):
            while content := source.recv(1 << 16):
                found = self._REQUEST.findall(content) if is_request else []
                self._requests.update(method.decode() for method in found)
                if found:
                    time.sleep(self._delay_seconds)
                target.sendall(content)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
            self._open.discard(one)


if __name__ == "__main__":
    _Relay(sys.argv[1], float(sys.argv[2])).run()
