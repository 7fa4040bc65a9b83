"""A stand-in for the Hub's HTTP interface on this machine: repositories of commits, as far as its client asks."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

#: Files that the Hub wants by its large-file interface.
LARGE = (".safetensors", ".png")


@dataclass
class Repository:
    """Commits by their hash, each the files by path; the last one is `main`."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def at(self, revision):
        commit = next(reversed(self.commits)) if revision == "main" else revision
        return (commit, self.commits[commit]) if commit in self.commits else None

    def add(self, files, message):
        whole = {**(next(reversed(self.commits.values())) if self.commits else {}), **files}
        told = [len(self.commits), message, sorted((k, hashlib.sha1(v).hexdigest()) for k, v in whole.items())]
        commit = hashlib.sha1(json.dumps(told).encode()).hexdigest()
        self.commits[commit] = whole
        self.messages.append(message)
        return commit


class HubServer(ThreadingHTTPServer):
    """`repositories` by name; `requests` are all that was asked for; `token` is the one that may write."""

    def __init__(self, token):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token, self.repositories, self.large, self.requests = token, {}, {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def hub(token="secret"):
    """The server, in a thread of its own."""
    with HubServer(token) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self._asked()
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            return self._info(match[1], match[2] or "main")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)/?", path):
            return self._tree(match[1], match[2])
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(match[1], match[2], match[3])
        return self._json({"error": f"no such thing: {path}"}, 404)

    do_HEAD = do_GET

    def do_POST(self):
        path, body = self._asked(), self.rfile.read(int(self.headers["Content-Length"] or 0))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._json({"error": "Invalid username or password."}, 401)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            files = json.loads(body)["files"]
            return self._json({"files": [{
                "path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False, "oid": None,
            } for file in files]})
        if re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            objects = json.loads(body)["objects"]
            return self._json({"transfer": "basic", "objects": [{
                **one, "actions": {"upload": {"href": f"{self.server.url}/large/{one['oid']}"}},
            } for one in objects]})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            return self._commit(match[1], [json.loads(line) for line in body.splitlines()])
        return self._json({"error": f"no such thing: {path}"}, 404)

    def do_PUT(self):
        name, body = self._asked().rpartition("/")[2], self.rfile.read(int(self.headers["Content-Length"]))
        good = hashlib.sha256(body).hexdigest() == name
        self.server.large[name] = body
        self._json({}, 200 if good else 400)

    def _asked(self):
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        return path

    def _create(self, told):
        name = f"{told['organization']}/{told['name']}"
        known = name in self.server.repositories
        private = told.get("private") is True or told.get("visibility") == "private"  # in earlier clients, in later
        self.server.repositories.setdefault(name, Repository(private=private))
        self._json({"url": f"{self.server.url}/{name}", "name": name, "id": name}, 409 if known else 200)

    def _commit(self, name, lines):
        files, message = {}, next(line["value"]["summary"] for line in lines if line["key"] == "header")
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                files[line["value"]["path"]] = self.server.large[line["value"]["oid"]]
        commit = self.server.repositories[name].add(files, message)
        self._json({"commitUrl": f"{self.server.url}/{name}/commit/{commit}", "commitOid": commit, "success": True})

    def _found(self, name, revision):
        """Commit and files, or None after the Hub's answer for what it does not have."""
        repository = self.server.repositories.get(name)
        if repository is None:
            self._json({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})
            return None
        found = repository.at(revision)
        if found is None:
            self._json({"error": f"Invalid rev id: {revision}"}, 404, {"X-Error-Code": "RevisionNotFound"})
        return found

    def _info(self, name, revision):
        if found := self._found(name, revision):
            siblings = [{"rfilename": path} for path in found[1]]
            self._json({"id": name, "modelId": name, "sha": found[0], "private": False, "tags": [], "downloads": 0,
                        "siblings": siblings})

    def _tree(self, name, revision):
        if found := self._found(name, revision):
            self._json([{"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                        for path, data in found[1].items()])

    def _file(self, name, revision, path):
        found = self._found(name, revision)
        if found is None:
            return
        commit, files = found
        if path not in files:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        self._answer(files[path], 200, {
            "X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(files[path]).hexdigest()}"', "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        })

    def _json(self, document, status=200, headers=None):
        self._answer(json.dumps(document).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _answer(self, body, status, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
