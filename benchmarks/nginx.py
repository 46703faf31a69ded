"""nginx as the origin: real files, a strong ETag, ranges. One process, so that it ends with its process id."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from tests.servers import ServerProcess
from tests.servers.origin import Content
from tests.servers.processes import free_port, gets_ok

MISSING: Final = "nginx is missing: install it (Debian and Ubuntu: apt install nginx-light)"

CONFIGURATION: Final = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    log_format sent '$request_method $uri $status $body_bytes_sent "$http_range"';
    access_log {log} sent;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        root {directory}/files;
        limit_rate {rate};
        location / {{ autoindex on; }}
        location /as/ {{ rewrite ^/as/[^/]+(/.*)$ $1 break; }}
    }}
}}
"""


def missing() -> bool:
    """Whether there is no nginx here."""
    return _binary() is None


def _binary() -> str | None:
    """Where it is. The folders called sbin, beside those of PATH, are in PATH for administrators alone."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    beside = [folder.with_name("sbin") for folder in folders]
    return shutil.which("nginx", path=os.pathsep.join(map(str, [*folders, *beside])))


class Nginx(ServerProcess):
    """Serves the files that were put there. `rate_bytes_per_s`: the most that one reply gets; 0 for no bound."""

    def __init__(self, directory: Path, rate_bytes_per_s: int = 0) -> None:
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self._files = directory / "files"
        self._files.mkdir()
        self._digests: dict[str, str] = {}
        configuration = directory / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                directory=directory, port=self.port, rate=rate_bytes_per_s, log=directory / "access.log"
            )
        )
        command = [_binary() or "nginx", "-p", str(directory), "-e", str(directory / "error.log")]
        super().__init__("nginx", [*command, "-c", str(configuration)], directory / "nginx.log", self._answers)

    def put(self, name: str, size: int, seed: int = 0) -> None:
        """Have a file of that many bytes, made from a seed."""
        content = Content(None, size, seed)
        path = self.file(name)
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.writelines(content.pieces(0, size))
        self._digests[name] = content.sha256()

    def file(self, name: str) -> Path:
        """Where it lies on disk."""
        return self._files / name

    def sha256(self, name: str) -> str:
        """The SHA-256 of a file, in hex."""
        return self._digests[name]

    def path(self, name: str, alias: str = "") -> str:
        """Where a file is; by each alias it is another URL, and the same file."""
        return f"/as/{alias}/{name}" if alias else f"/{name}"

    def _answers(self) -> bool:
        return gets_ok(self.port, "/", "HEAD")
