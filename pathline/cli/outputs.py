"""The files that a command writes where its user says: made beside, then renamed, and never over somebody else's.

    check before the work  ->  write to a hidden name beside  ->  rename  ->  note in RUN/outputs.jsonl

A file that is there is replaced if it is the command's default output, or if the same command of the same run wrote it
and its bytes are still those; any other is refused without --overwrite. The data that the run was trained on, what the
command reads, and the run's own files are never replaced. outputs.jsonl holds a line for each file that was written:
its path from the run folder, the command, and the sha256 of its bytes. A folder of single images is as one file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from pathline.cli.terminal import warn
from pathline.data.named import source_of
from pathline.runs import OUTPUTS, PARTS, Run

OF_IMAGES = re.compile(r"\d+\.png|metadata\.jsonl")  # what a folder of samples holds
OF_OUTPUTS = ("samples", "likelihood", "verify")  # folders of a run that hold nothing but outputs


class Outputs:
    """The files that a command is to write, checked before its work begins.

    Args:
        run: The run whose command it is.
        command: Its name.
        paths: The files; the first is the one that --out names.
        default: What the first is unless --out is given.
        has_consent: Whether --overwrite is given.
        read: What the command reads, named as in training.
        is_folder: Whether the first path is a folder that the command fills.

    Raises:
        ValueError: If a file cannot be written there, or would replace one that it must not.
    """

    def __init__(
        self,
        run: Run,
        command: str,
        paths: Sequence[Path],
        default: Path,
        has_consent: bool = False,
        read: Sequence[str] = (),
        is_folder: bool = False,
    ) -> None:
        self.run, self.command, self.paths, self.is_folder = run, command, tuple(paths), is_folder
        is_default = self.paths[0].resolve() == default.resolve()
        for path in self.paths:
            _refuse_place(path, is_folder)
            self._refuse_read(path, read)
            if is_folder and has_consent:
                _refuse_odd(path)
            elif _holds_something(path) and not is_default and not has_consent:
                self._refuse_others(path)

    @contextmanager
    def opened(self) -> Iterator[Mapping[Path, Path]]:
        """A hidden name beside each file, to write to. What is written there at the end gets the files' names.

        Whatever goes wrong, or interrupts, leaves the files as they were, and nothing beside them.

        Raises:
            ValueError: If the disk is full, or does not take them for another reason.
        """
        targets = {path: path.resolve() for path in self.paths}  # a link stays, and what it leads to is replaced
        parts = {
            path: target.with_name(f".pathline-{secrets.token_hex(4)}{'' if self.is_folder else target.suffix}")
            for path, target in targets.items()
        }
        made = [_made_folders(target.parent) for target in targets.values()]
        is_done = False
        try:
            if self.is_folder:
                parts[self.paths[0]].mkdir()
            with _interruptible():
                yield parts
            written = [path for path, part in parts.items() if part.exists()]
            for path in written:
                _settle(parts[path], targets[path])
            hashes = {path: _digest(parts[path]) for path in written}
            for path in written:
                _put(parts[path], targets[path])
            is_done = True
        except OSError as error:
            path = next((path for path, part in parts.items() if str(part) == str(error.filename)), self.paths[0])
            before = "what was there is as it was" if path.exists() else "nothing was written"
            raise ValueError(
                f"cannot write {path}: {error.strerror or error}; {before}; make room there, or name another place "
                "with --out"
            ) from error
        finally:
            for part in parts.values():
                shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
            for folder in (folder for folders in made for folder in folders if not is_done):
                with suppress(OSError):  # another process may have put something there
                    folder.rmdir()
        self._note(hashes)

    def _refuse_read(self, path: Path, read: Sequence[str]) -> None:
        """Refuse what the run was trained on, what the command reads, and what the run is made of."""
        target, folder = path.resolve(), self.run.folder.resolve()
        is_inside = folder in target.parents
        for data, what in (
            (self.run.config.data, f"{self.run.folder} was trained on"),
            (self.run.config.start, f"{self.run.folder} was trained on"),
            *((data, "this command reads") for data in read),
        ):
            own = _file_of(data)
            if own is None:
                _refuse_namesake(path, data, what)
                continue
            is_same = target.exists() and target.samefile(own)
            if is_same or (own.is_dir() and own in target.parents and not is_inside):
                belongs = "is" if is_same else "lies in"
                raise ValueError(
                    f"{path} {belongs} the data that {what}, which is never replaced or added to; name another file "
                    "with --out"
                )
        part = target.relative_to(folder).parts[0] if is_inside else ""
        if part in PARTS and part not in OF_OUTPUTS:
            raise ValueError(
                f"{path} is a part of the run {self.run.folder}, which is never replaced; name another file with --out"
            )

    def _refuse_others(self, path: Path) -> None:
        """Refuse a file that this command of the run did not write, or that has changed since."""
        known = self._known(path)
        if known == "":
            said = f"{path} exists already, and pathline {self.command} of {self.run.folder} did not write it"
        elif known != _digest(path):
            said = f"{path} has changed since pathline {self.command} of {self.run.folder} wrote it"
        else:
            return
        raise ValueError(f"{said}; name another file with --out, or replace it with --overwrite")

    def _known(self, path: Path) -> str:
        """The sha256 of what this command wrote there last; empty if that is not known."""
        record, name = self.run.folder / OUTPUTS, self._name(path)
        found = ""  # a line that a kill cut short vouches for no file
        for line in record.read_text(encoding="utf-8", errors="replace").splitlines() if record.exists() else ():
            try:
                values = json.loads(line)
                if values["path"] == name:
                    found = str(values["sha256"]) if values["command"] == self.command else ""
            except (
                ValueError,
                TypeError,
                KeyError,
                RecursionError,
            ):
                continue
        return found

    def _note(self, hashes: Mapping[Path, str]) -> None:
        """Keep what was written, so that the next call of the command may replace it."""
        lines = [
            json.dumps({"path": self._name(path), "command": self.command, "sha256": found}) + "\n"
            for path, found in hashes.items()
        ]
        try:
            with (self.run.folder / OUTPUTS).open("a", encoding="utf-8") as file:
                file.write("".join(lines))
        except OSError as error:
            warn(
                self.command,
                f"{self.paths[0]} is written, but not noted in {self.run.folder}: "
                f"{error.strerror}; to replace it later, give --overwrite",
            )

    def _name(self, path: Path) -> str:
        """A file as the record names it: by its way from the run, as both may be moved together."""
        return os.path.relpath(path.resolve(), self.run.folder.resolve())


def _refuse_place(path: Path, is_folder: bool) -> None:
    """Refuse a place that no file, or folder, can be written to."""
    if is_folder and path.exists() and not path.is_dir():
        raise ValueError(f"--out ends in / and so must be a folder, and there is a file {path}")
    if not is_folder and path.exists() and not path.is_file():
        raise ValueError(f"--out must be a file, and there is {'a folder' if path.is_dir() else 'none'} {path}")
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"{path} is read-only, and is left as it is; name another file with --out")
    parent = next(parent for parent in path.resolve().parents if parent.exists())
    if not parent.is_dir():
        raise ValueError(f"cannot write {path}: {parent} is a file; name another place with --out")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write {path}: the folder {parent} is read-only; name another place with --out")


def _refuse_namesake(path: Path, data: str, what: str) -> None:
    """Refuse a file that ends in the relative path of data that is not there, seen from here: it may be that data."""
    parts = PurePath(data).parts
    if PurePath(data).suffix and path.exists() and path.resolve().parts[-len(parts) :] == parts:
        raise ValueError(
            f"{path} may be the data that {what}, {data}, which is never replaced; name another file with --out, or "
            "run this from where the run was trained"
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM as an exception, as SIGINT is one, so that what was begun is cleared away."""
    is_free = threading.current_thread() is threading.main_thread()
    if not is_free or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _holds_something(path: Path) -> bool:
    """Whether there is a file, or a folder that is not empty."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _refuse_odd(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but single images and their conditions."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if not OF_IMAGES.fullmatch(path.name) or not path.is_file():
            raise ValueError(
                f"{folder} holds {path.name}, which pathline did not write, and --overwrite does not remove; name "
                "another folder with --out"
            )


def _put(part: Path, target: Path) -> None:
    """Give what was written its name; a folder that is there makes room, and comes back if it cannot."""
    if not target.is_dir():
        part.replace(target)
        return
    aside = target.rename(target.with_name(f"{part.name}.old"))
    try:
        part.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside)


def _file_of(data: str) -> Path | None:
    """The file or folder that data is read from; None if it is no file, or is not there any more."""
    try:
        found = getattr(source_of(data), "path", None)
    except ValueError:
        found = data
    path = Path(found).resolve() if found else None
    return path if path is not None and path.exists() else None


def _made_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; those that were made, the innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _settle(part: Path, target: Path) -> None:
    """Force a file to the disk before its name is given away, with the rights of the file that it replaces."""
    if target.exists():
        shutil.copymode(target, part)
    for path in part.iterdir() if part.is_dir() else [part]:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _digest(path: Path) -> str:
    """The sha256 of a file; of a folder, that of the names and hashes of what it holds."""
    if path.is_dir():
        each = (f"{file.name}\0{_digest(file)}\n" for file in sorted(path.iterdir()))
        return hashlib.sha256("".join(each).encode(errors="surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
