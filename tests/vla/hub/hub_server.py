"""The part of the Hub that pushing and pulling a model talks to, over real HTTP, with faults on demand.

Small files go into commits as they are, weights through git-LFS (in parts above `part_bytes`), as the Hub does for a
client without Xet. Weights are served from another host name, as the Hub's storage is.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

WRITE, READ, OTHER = "hf_writewritewritewritewrite", "hf_readreadreadreadreadread", "hf_otherotherotherotherother"
_USERS = {WRITE: ("alice", "write"), READ: ("alice", "read"), OTHER: ("mallory", "write")}


@dataclass
class Repo:
    private: bool
    trees: dict[str, dict[str, tuple[bytes, bool]]] = field(default_factory=dict)  # commit -> path -> (bytes, LFS?)
    head: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, tree: dict[str, tuple[bytes, bool]]) -> str:
        rows = sorted((path, hashlib.sha1(content).hexdigest()) for path, (content, _) in tree.items())
        self.head = hashlib.sha1(json.dumps([self.head, rows]).encode()).hexdigest()
        self.trees[self.head] = tree
        return self.head

    def resolve(self, revision: str) -> str | None:
        found = self.head if revision == "main" else self.tags.get(revision)
        return found or next((c for c in self.trees if len(revision) >= 7 and c.startswith(revision)), None)

    @property
    def files(self) -> dict[str, bytes]:
        return {path: content for path, (content, _) in self.trees[self.head].items()}


@dataclass
class Hub:
    url: str = ""
    storage: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    part_bytes: int = 1 << 20
    log: list[tuple[str, str, int]] = field(default_factory=list)  # method, path, bytes of the body
    authorised_storage: bool = False  # whether the storage host ever saw a token
    drop_upload_after: list[int] = field(default_factory=list)  # one a PUT: cut the connection at this byte
    drop_download_after: list[int] = field(default_factory=list)  # one a GET of a large file
    sent: int = 0  # bytes of large files given out
    damage: dict[str, bytes] = field(default_factory=dict)  # SHA-256 -> what the storage gives instead
    fail: dict[str, tuple[int, str]] = field(default_factory=dict)  # regex of "METHOD path" -> status, message
    stalled: threading.Event = field(default_factory=threading.Event)
    stall_upload_after: int | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    def count(self, pattern: str) -> int:
        return sum(1 for method, path, _ in self.log if re.search(pattern, f"{method} {path}"))

    def bytes_of(self, pattern: str) -> int:
        return sum(size for method, path, size in self.log if re.search(pattern, f"{method} {path}"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and content in one packet
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    # --------------------------------------------------------------------------------------------------- answering

    def _answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        try:
            body = self._body(method, path)
        except ConnectionAbortedError:
            return None
        with self.hub.lock:
            self.hub.log.append((method, path, len(body)))
        for pattern, (status, message) in self.hub.fail.items():
            if re.search(pattern, f"{method} {path}"):
                echo = message.replace("{authorization}", self.headers.get("Authorization") or "")
                return self._json(status, {"error": echo}, {"X-Error-Message": echo})
        for pattern, wanted, handler in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method in wanted:
                return handler(self, body, *match.groups())
        return self._json(404, {"error": f"no such endpoint: {method} {path}"})

    def _body(self, method: str, path: str) -> bytes:
        length = self.headers.get("Content-Length")
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(self._chunks(method, path))
        return b"".join(self._sized(int(length or 0), method, path))

    def _sized(self, length: int, method: str, path: str) -> Iterator[bytes]:
        cut = self._cut(method, path)
        done = 0
        while done < length:
            block = self.rfile.read(min(length - done, 16384))
            if not block:
                raise ConnectionAbortedError
            done += len(block)
            self._maybe_cut(cut, done)
            yield block

    def _chunks(self, method: str, path: str) -> Iterator[bytes]:
        cut, done = self._cut(method, path), 0
        while size := int(self.rfile.readline().split(b";")[0], 16):
            block = self.rfile.read(size)
            self.rfile.readline()
            done += len(block)
            self._maybe_cut(cut, done)
            yield block
        self.rfile.readline()

    def _cut(self, method: str, path: str) -> int | None:
        if method != "PUT" or not path.startswith("/storage/"):
            return None
        return self.hub.drop_upload_after.pop(0) if self.hub.drop_upload_after else None

    def _maybe_cut(self, cut: int | None, done: int) -> None:
        if self.hub.stall_upload_after is not None and self.command == "PUT" and done >= self.hub.stall_upload_after:
            self.hub.stalled.set()
            threading.Event().wait(30)  # the test kills the client meanwhile
            cut = 0
        if cut is not None and done >= cut:
            self.close_connection = True
            self.connection.shutdown(2)
            raise ConnectionAbortedError

    def _json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value.replace("\n", " "))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # ------------------------------------------------------------------------------------------------------- rights

    def _user(self) -> tuple[str, str] | None:
        return _USERS.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))

    def _repo(self, name: str, writing: bool = False) -> Repo | None:
        """The repository if this caller may see (or change) it; else the answer is already sent."""
        repo, user = self.hub.repos.get(name), self._user()
        token = self.headers.get("Authorization")
        if token and user is None:
            self._json(401, {"error": "Invalid credentials"}, {"X-Error-Message": "Invalid credentials"})
        elif repo is None or (repo.private and (user is None or user[0] != name.split("/")[0])):
            status = 404 if user else 401
            self._json(status, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif writing and (user is None or user[0] != name.split("/")[0] or user[1] != "write"):
            self._json(403, {"error": "Forbidden"}, {"X-Error-Message": "You have no right to write here"})
        else:
            return repo
        return None

    # ---------------------------------------------------------------------------------------------------- endpoints

    def whoami(self, body: bytes) -> None:
        user = self._user()
        if user is None:
            return self._json(401, {"error": "Invalid credentials"})
        token = {"displayName": "test", "role": user[1]}
        return self._json(200, {"type": "user", "name": user[0], "auth": {"accessToken": token}})

    def agents(self, body: bytes) -> None:
        self._json(200, {"standardEnvVars": [], "harnesses": {}})

    def validate(self, body: bytes) -> None:
        self._json(200, {"errors": [], "warnings": []})

    def create(self, body: bytes) -> None:
        wanted, user = json.loads(body), self._user()
        name = f"{wanted['organization'] or (user or ('',))[0]}/{wanted['name']}"
        if user is None or user[0] != name.split("/")[0] or user[1] != "write":
            return self._json(403, {"error": "Forbidden"}, {"X-Error-Message": f"No right to the namespace of {name}"})
        if name in self.hub.repos:
            return self._json(409, {"error": "You already created this model repo"})
        repo = self.hub.repos[name] = Repo(private=wanted.get("visibility") == "private")
        repo.commit({".gitattributes": (b"*.safetensors filter=lfs\n", False)})
        return self._json(200, {"url": f"{self.hub.url}/{name}"})

    def info(self, body: bytes, name: str, revision: str | None = None) -> None:
        repo = self._repo(name)
        if repo is None:
            return None
        commit = repo.resolve(revision or "main")
        if commit is None:
            return self._no_revision(revision)
        card = repo.trees[commit].get("README.md", (b"", False))[0].decode()
        licence = re.search(r"(?m)^license: (\S+)$", card)
        data = {"license": licence[1]} if licence else None
        siblings = [{"rfilename": path} for path in repo.trees[commit]]
        return self._json(
            200,
            {"id": name, "modelId": name, "sha": commit, "private": repo.private, "cardData": data}
            | {"siblings": siblings, "tags": []},
        )

    def _no_revision(self, revision: str | None) -> None:
        self._json(404, {"error": f"Invalid rev id: {revision}"}, {"X-Error-Code": "RevisionNotFound"})

    def settings(self, body: bytes, name: str) -> None:
        repo = self._repo(name, writing=True)
        if repo is not None:
            repo.private = json.loads(body)["visibility"] == "private"
            self._json(200, {})

    def refs(self, body: bytes, name: str) -> None:
        repo = self._repo(name)
        if repo is not None:
            tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": c} for t, c in repo.tags.items()]
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head}
            self._json(200, {"branches": [main], "converts": [], "tags": tags})

    def tag(self, body: bytes, name: str, revision: str) -> None:
        repo = self._repo(name, writing=True)
        if repo is None:
            return None
        wanted, commit = json.loads(body)["tag"], repo.resolve(revision)
        if commit is None:
            return self._no_revision(revision)
        if wanted in repo.tags:
            return self._json(409, {"error": f"Tag {wanted} exists already"})
        repo.tags[wanted] = commit
        return self._json(200, {})

    def tree(self, body: bytes, name: str, revision: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return None
        commit = repo.resolve(revision)
        if commit is None:
            return self._no_revision(revision)
        return self._json(200, [_entry(p, c, lfs) for p, (c, lfs) in sorted(repo.trees[commit].items())])

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        if self._repo(name, writing=True) is not None:
            files = json.loads(body)["files"]
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for f in files
            ]
            self._json(200, {"files": modes})

    def batch(self, body: bytes, name: str) -> None:
        if self._repo(name, writing=True) is None:
            return
        rows = []
        for wanted in json.loads(body)["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            row = {"oid": oid, "size": size}
            if oid not in self.hub.objects:
                row["actions"] = {"upload": self._upload(oid, size), "verify": {"href": f"{self.hub.url}/verify"}}
            rows.append(row)
        self._json(200, {"transfer": "multipart", "objects": rows})

    def _upload(self, oid: str, size: int) -> dict[str, object]:
        base, step = f"{self.hub.storage}/storage/{oid}", self.hub.part_bytes
        if size <= step:
            return {"href": base}
        parts = {str(i + 1): f"{base}/{i + 1}" for i in range(-(-size // step))}
        return {"href": f"{self.hub.url}/complete/{oid}", "header": {"chunk_size": str(step), **parts}}

    def put_object(self, body: bytes, oid: str) -> None:
        self._note_token()
        if hashlib.sha256(body).hexdigest() != oid:
            return self._json(400, {"error": "wrong hash"})
        self.hub.objects[oid] = body
        return self._send(200, b"", {"ETag": '"x"'})

    def put_part(self, body: bytes, oid: str, number: str) -> None:
        self._note_token()
        self.hub.parts[oid, int(number)] = body
        self._send(200, b"", {"ETag": f'"{number}"'})

    def complete(self, body: bytes, oid: str) -> None:
        numbers = [part["partNumber"] for part in json.loads(body)["parts"]]
        content = b"".join(self.hub.parts.pop((oid, number)) for number in numbers)
        if hashlib.sha256(content).hexdigest() != oid:
            return self._json(400, {"error": "wrong hash"})
        self.hub.objects[oid] = content
        return self._json(200, {})

    def verify(self, body: bytes) -> None:
        wanted = json.loads(body)
        held = self.hub.objects.get(wanted["oid"])
        self._json(200 if held is not None and len(held) == wanted["size"] else 404, {})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        repo = self._repo(name, writing=True)
        if repo is None:
            return None
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repo.head):
            return self._json(412, {"error": "A commit has happened since"})
        tree = dict(repo.trees[repo.head])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                tree[value["path"]] = (base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return self._json(400, {"error": f"LFS object {value['oid']} is missing"})
                tree[value["path"]] = (self.hub.objects[value["oid"]], True)
            elif line["key"] == "deletedFile":
                del tree[value["path"]]
        commit = repo.commit(tree)
        return self._json(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})

    def file(self, body: bytes, name: str, revision: str, path: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return None
        commit = repo.resolve(revision)
        if commit is None:
            return self._no_revision(revision)
        if path not in repo.trees[commit]:
            return self._json(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        content, lfs = repo.trees[commit][path]
        blob = _entry(path, content, lfs)
        if not lfs:
            return self._send(200, content, {"ETag": f'"{blob["oid"]}"', "X-Repo-Commit": commit})
        oid = hashlib.sha256(content).hexdigest()
        linked = {"X-Linked-ETag": f'"{oid}"', "X-Linked-Size": str(len(content)), "X-Repo-Commit": commit}
        return self._send(302, b"", {"Location": f"{self.hub.storage}/storage/{oid}", **linked})

    def get_object(self, body: bytes, oid: str) -> None:
        self._note_token()
        content = self.hub.damage.get(oid, self.hub.objects[oid])
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked else 0
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if asked else {}
        rest = content[start:]
        if self.command == "GET" and self.hub.drop_download_after:
            cut = self.hub.drop_download_after.pop(0)
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[:cut])
            self.hub.sent += cut
            self.close_connection = True
            return
        self.hub.sent += len(rest)
        self._send(206 if asked else 200, rest, headers)

    def _note_token(self) -> None:
        self.hub.authorised_storage |= self.headers.get("Authorization") is not None


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: list[tuple[str, tuple[str, ...], Callable[..., None]]] = [
    (r"/api/whoami-v2", ("GET",), _Handler.whoami),
    (r"/api/agent-harnesses", ("GET",), _Handler.agents),
    (r"/api/validate-yaml", ("POST",), _Handler.validate),
    (r"/api/repos/create", ("POST",), _Handler.create),
    (rf"/api/models/{_NAME}", ("GET",), _Handler.info),
    (rf"/api/models/{_NAME}/revision/(.+)", ("GET",), _Handler.info),
    (rf"/api/models/{_NAME}/settings", ("PUT",), _Handler.settings),
    (rf"/api/models/{_NAME}/refs", ("GET",), _Handler.refs),
    (rf"/api/models/{_NAME}/tag/(.+)", ("POST",), _Handler.tag),
    (rf"/api/models/{_NAME}/tree/([^/]+)", ("GET",), _Handler.tree),
    (rf"/api/models/{_NAME}/preupload/(.+)", ("POST",), _Handler.preupload),
    (rf"/api/models/{_NAME}/commit/(.+)", ("POST",), _Handler.commit),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", ("POST",), _Handler.batch),
    (r"/verify", ("POST",), _Handler.verify),
    (r"/complete/(\w+)", ("POST",), _Handler.complete),
    (r"/storage/(\w+)", ("PUT",), _Handler.put_object),
    (r"/storage/(\w+)/(\d+)", ("PUT",), _Handler.put_part),
    (r"/storage/(\w+)", ("GET", "HEAD"), _Handler.get_object),
    (rf"/{_NAME}/resolve/([^/]+)/(.+)", ("GET", "HEAD"), _Handler.file),
]


def _entry(path: str, content: bytes, lfs: bool) -> dict[str, object]:
    def blob(data: bytes) -> str:
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    if not lfs:
        return {"type": "file", "path": path, "size": len(content), "oid": blob(content)}
    oid = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n".encode()
    large = {"oid": oid, "size": len(content), "pointerSize": len(pointer)}
    return {"type": "file", "path": path, "size": len(content), "oid": blob(pointer), "lfs": large}


@contextmanager
def serve() -> Iterator[Hub]:
    """A Hub on a free port of the loopback; it forgets everything at the end."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    port = server.server_address[1]
    hub.url, hub.storage = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
