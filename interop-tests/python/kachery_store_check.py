#!/usr/bin/env python3
"""The storage folder of Python's kachery 0.6.3, written a second time from its description, standard library only.

    kachery_store_check.py put ROOT ALGORITHM FILE...     store files as Python would; prints the hashes
    kachery_store_check.py put-directory ROOT FOLDER      store a folder's manifest as Python would; prints its hash
    kachery_store_check.py find ROOT ALGORITHM HASH       where Python would find a hash, or nothing
    kachery_store_check.py remembered ROOT ALGORITHM FILE the hash in the hash memory, or nothing
    kachery_store_check.py list ROOT sha1dir://H.x/path   the listing Python would print
    kachery_store_check.py hammer ROOT ALGORITHM FILE N   remember the hash of a file N times, with all locks
"""
import fcntl
import hashlib
import json
import os
import random
import string
import sys
import time

SMALL = 100000


def place(root, algorithm, name):
    return os.path.join(root, algorithm, name[0:2], name[2:4], name[4:6], name)


class Locked:
    """flock on the lock file beside a JSON file, tried again after 0 to 100 ms, for ever."""

    def __init__(self, path, kind):
        self.path, self.kind = path + ".lock", kind

    def __enter__(self):
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        while True:
            self.file = open(self.path, "w")
            try:
                fcntl.flock(self.file, self.kind | fcntl.LOCK_NB)
                return self
            except BlockingIOError:
                self.file.close()
                time.sleep(random.uniform(0, 0.1))

    def __exit__(self, *_):
        fcntl.flock(self.file, fcntl.LOCK_UN)
        self.file.close()


def read_json(path):
    with Locked(path, fcntl.LOCK_SH):
        if not os.path.exists(path):
            return None
        with open(path) as f:
            text = f.read()
    try:
        return json.loads(text)
    except ValueError:
        print("WARNING: unreadable JSON deleted: " + path, file=sys.stderr)
        os.unlink(path)
        return None


def write_json(path, value):
    with Locked(path, fcntl.LOCK_EX):
        with open(path, "w") as f:
            json.dump(value, f)


def stat_object(path):
    s = os.stat(path)
    return {"path": os.path.abspath(path), "size": s.st_size, "ino": s.st_ino, "mtime": s.st_mtime, "ctime": s.st_ctime}


def record_path(root, algorithm, stat):
    record_id = hashlib.sha1(json.dumps(stat, sort_keys=True).encode()).hexdigest()
    return place(root, algorithm, record_id) + ".record.json"


def remembered(root, algorithm, path):
    stat = stat_object(path)
    record = read_json(record_path(root, algorithm, stat))
    if record and json.dumps(record["stat"], sort_keys=True) == json.dumps(stat, sort_keys=True):
        return record[algorithm]
    return None


def remember(root, algorithm, path, name):
    stat = stat_object(path)
    entry = {"stat": stat, algorithm: name}
    write_json(record_path(root, algorithm, stat), entry)
    hints_path = place(root, algorithm, name) + ".hints.json"
    hints = read_json(hints_path) or {"files": []}
    hints["files"].append(entry)
    write_json(hints_path, hints)


def compute(root, algorithm, path):
    if os.path.getsize(path) >= SMALL:
        known = remembered(root, algorithm, path)
        if known:
            return known
    hasher = hashlib.new(algorithm)
    with open(path, "rb") as f:
        while piece := f.read(65536):
            hasher.update(piece)
    name = hasher.hexdigest()
    if os.path.getsize(path) >= SMALL:
        remember(root, algorithm, path, name)
    return name


def put(root, algorithm, path):
    name = compute(root, algorithm, path)
    target = place(root, algorithm, name)
    if not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        temporary = target + ".copying." + "".join(random.choices(string.ascii_letters + string.digits, k=6))
        with open(path, "rb") as source, open(temporary, "wb") as copy:
            copy.write(source.read())
        os.rename(temporary, target)
    return name


def find(root, algorithm, name):
    target = place(root, algorithm, name)
    if os.path.exists(target):
        return target
    hints_path = target + ".hints.json"
    hints = read_json(hints_path)
    if not hints:
        return None
    valid = []
    for entry in hints["files"]:
        path = entry["stat"]["path"]
        if os.path.isfile(path) and json.dumps(stat_object(path)) == json.dumps(entry["stat"]):
            valid.append(entry)
    if not valid:
        os.unlink(hints_path)
        return None
    write_json(hints_path, {"files": valid})
    return valid[0]["stat"]["path"]


def manifest(root, folder):
    result = {"files": {}, "dirs": {}}
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            result["files"][name] = {"size": os.path.getsize(path), "sha1": put(root, "sha1", path)}
        elif os.path.isdir(path):
            result["dirs"][name] = manifest(root, path)
    return result


def put_directory(root, folder):
    os.makedirs(os.path.join(root, "tmp"), exist_ok=True)
    text_path = os.path.join(root, "tmp", "tmpmanifest")
    with open(text_path, "w") as f:
        f.write(json.dumps(manifest(root, folder)))
    name = put(root, "sha1", text_path)
    os.unlink(text_path)
    return name


def list_directory(root, uri):
    elements = uri.split("/")
    path = find(root, "sha1", elements[2].split(".")[0])
    with open(path) as f:
        here = json.load(f)
    for element in [e for e in elements[3:]]:
        here = here["dirs"][element]
    for name, entry in here["files"].items():
        found = find(root, "sha1", entry["sha1"])
        assert found and os.path.getsize(found) == entry["size"], name
    return [name + "/" for name in sorted(here["dirs"])] + sorted(here["files"])


def main():
    command, root, *rest = sys.argv[1:]
    if command == "put":
        algorithm, *paths = rest
        for path in paths:
            print(put(root, algorithm, path))
    elif command == "put-directory":
        print(put_directory(root, rest[0]))
    elif command == "find":
        print(find(root, *rest) or "")
    elif command == "remembered":
        print(remembered(root, *rest) or "")
    elif command == "list":
        print("\n".join(list_directory(root, rest[0])))
    elif command == "hammer":
        algorithm, path, count = rest
        name = compute(root, algorithm, path)
        for _ in range(int(count)):
            remember(root, algorithm, path, name)
            assert remembered(root, algorithm, path) == name
            assert find(root, algorithm, name)
        print(name)
    else:
        sys.exit(__doc__)


main()
