"""What was translated and compiled before, found again by content.

pip builds in a fresh environment every time, whose Cython and NumPy are newer than everything made
by the last build: by the clock nothing is ever up to date. So files are known by what they are made
from. All of it lies under `build/`, which pip keeps in a clone.
"""

import hashlib
import os
import re
import shutil
from pathlib import Path

ROOM = 600  # modules kept: three generations of three interpreters

# Cython's list of what it was called with, and the folder that its own files lay in.
METADATA = re.compile(rb"/\* BEGIN: Cython Metadata.*?END: Cython Metadata \*/", re.DOTALL)
INSTALLED = re.compile(rb'"[^"\n]*/(site|dist)-packages/')
INCLUDED = re.compile(rb'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def digest(*parts):
    found = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        found.update(b"%d:" % len(data) + data)
    return found.hexdigest()


def content_of(source, folders):
    """Digest of a C file and of the headers of this package that it includes, each by content."""
    seen, waiting, contents = set(), [Path(source)], []
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        text = INSTALLED.sub(b'"', METADATA.sub(b"", path.read_bytes()))
        contents.append(text)
        for name in INCLUDED.findall(text):
            places = [Path(folder, name.decode()) for folder in (path.parent, *folders)]
            waiting += [place for place in places if place.is_file()][:1]
    return digest(*contents)


class Stamp:
    """A file that says what some outputs were made from, and by which tools."""

    def __init__(self, path, tools, sources):
        self.path = Path(path)
        self.tools, self.sources = digest(*tools), digest(*sources)

    def _read(self):
        return self.path.read_text(encoding="ascii").split() if self.path.is_file() else []

    def holds(self, outputs):
        same = self._read() == [self.tools, self.sources]
        return same and all(Path(output).is_file() for output in outputs)

    def same_tools(self):
        return self._read()[:1] == [self.tools]

    def unset(self):
        """Before the outputs are made: what is cut short must not pass for whole."""
        if self.same_tools():
            self.path.write_text(self.tools, encoding="ascii")
        else:
            self.path.unlink(missing_ok=True)

    def set(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(f"{self.tools} {self.sources}", encoding="ascii")


class Modules:
    """Compiled modules by the digest of what they were made from."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def fetch(self, key, path):
        """Bring the module to `path` if it is kept; a loaded one there is replaced, not written."""
        kept, path = self.folder / key, Path(path)
        if not kept.is_file():
            return False
        os.utime(kept)
        if not (path.is_file() and path.read_bytes() == kept.read_bytes()):
            replace(kept, path)
        return True

    def keep(self, key, path):
        replace(Path(path), self.folder / key)

    def forget_oldest(self):
        """When all are built: another thread may ask for the age of a file that is removed."""
        kept = self.folder.iterdir() if self.folder.is_dir() else ()
        for path in sorted(kept, key=lambda path: path.stat().st_mtime)[:-ROOM]:
            path.unlink()


def replace(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.copyfile(source, beside)
    shutil.copymode(source, beside)
    os.replace(beside, target)
