"""A service as many write them: it asks a database by its client, keeps a cache in
Redis, writes uploads, reports and a log that it rotates, and starts programs."""
import gzip
import hashlib
import http.server
import json
import logging
import logging.handlers
import os
import random
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import uuid

DATA = "/var/lib/app"
os.makedirs(DATA + "/uploads", exist_ok=True)
log = logging.getLogger("app")
log.setLevel(logging.INFO)
log.addHandler(logging.handlers.RotatingFileHandler(DATA + "/app.log", maxBytes=1500, backupCount=3))


def redis(*words):
    with socket.create_connection(("cache", 6379), 5) as s:
        s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return s.recv(65536)


def sql(text):
    return subprocess.run(["psql", "-h", "db", "-U", "postgres", "-At", "-c", text, "shop"],
                          check=True, capture_output=True, timeout=20).stdout


def upload(body):
    name = str(uuid.uuid4())
    with tempfile.NamedTemporaryFile(dir=DATA + "/uploads", delete=False) as f:
        f.write(body)
    os.rename(f.name, "%s/uploads/%s.bin" % (DATA, name))
    old = sorted(os.scandir(DATA + "/uploads"), key=lambda e: e.stat().st_mtime)[:-30]
    for e in old:
        os.unlink(e.path)
    return name.encode()


def report(kind):
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, kind + ".csv")
        with open(path, "w") as f:
            for i in range(50):
                f.write("%d,%s\n" % (i, random.random()))
        sizes = subprocess.run("sort -t, -k2 %s | head -n 5 | wc -c" % path, shell=True, check=True, capture_output=True).stdout
        day = time.strftime("%Y-%m-%d")
        os.makedirs("%s/reports/%s" % (DATA, day), exist_ok=True)
        with gzip.open("%s/reports/%s/%s-%s.csv.gz" % (DATA, day, kind, time.strftime("%H%M%S")), "wb") as f:
            f.write(open(path, "rb").read())
        return sizes


def local(n):
    with sqlite3.connect(DATA + "/local.db") as db:
        db.execute("create table if not exists seen (at real, n int)")
        db.execute("insert into seen values (?, ?)", (time.time(), n))
        return b"%d" % db.execute("select count(*) from seen").fetchone()[0]


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        log.info("%s %s", self.client_address[0], words)

    def do_GET(self):
        what, _, arg = self.path.removeprefix("/app/").partition("/")
        if what == "cache":
            redis(b"SET", arg.encode(), hashlib.sha256(arg.encode()).digest() * 8)
            self.answer(redis(b"GET", arg.encode()))
        elif what == "items":
            self.answer(sql("select count(*), max(name) from item where name > '%d'" % random.randrange(100)))
        elif what == "add":
            self.answer(sql("insert into item (name) select md5((n * random())::text) from generate_series(1, %d) n" % int(arg)))
        elif what == "report":
            self.answer(report(arg))
        elif what == "local":
            self.answer(local(int(arg)))
        elif what == "big":
            self.answer(os.urandom(int(arg)))
        else:
            self.answer(json.dumps({"threads": threading.active_count(), "host": socket.gethostname()}).encode())

    def do_POST(self):
        self.answer(upload(self.rfile.read(int(self.headers["Content-Length"]))))


http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
