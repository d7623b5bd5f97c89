"""Rows of answers in a JSONL or CSV file that is written as they come, and can be completed later.

After a kill the complete rows are there; a row that was cut off is dropped. A row with an error is not kept when the
file is resumed, so that it is tried again.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from filelock import FileLock, Timeout

from omnilmm.errors import InputError

FORMATS = (".jsonl", ".csv")
Row = Mapping[str, Any]


def check_name(path: Path) -> None:
    """Check the name of a file for rows.

    Raises:
        InputError: It is neither JSONL nor CSV, or its folder does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError("rows_format", path=path, expected=FORMATS)
    if not path.resolve().parent.is_dir():
        raise InputError("rows_without_folder", folder=path.resolve().parent)


def storable(value: Any) -> Any:
    r"""Return a value that UTF-8 can hold.

    Bytes of a file name that are not UTF-8 become "\xff", half a character of UTF-16 becomes "\ud800".
    """
    if not isinstance(value, str):
        return value
    try:
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode("utf-8")


class RowFile:
    """A file of rows, open for more of them.

    Args:
        path: a `.jsonl` or `.csv` file; created, or resumed.
        columns: names of the columns, in order.
        key: columns that identify a row; rows with the same values are told apart by their order.
        same: columns whose values must be the same in the whole file, e.g. the model, with these values.

    Raises:
        InputError: It is not such a file, has rows with other values in the columns of `same`, or is being written by
            another program.
    """

    def __init__(self, path: Path, columns: Sequence[str], key: Sequence[str], same: Row) -> None:
        self.path, self.columns, self.key, self.same = (
            path,
            tuple(columns),
            tuple(key),
            {name: storable(value) for name, value in same.items()},
        )
        check_name(path)
        self._lock = FileLock(f"{path}.lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError("rows_in_use", path=path) from None
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            self.rows = [row for row in self._read() if not row.get("error")]
            self.rewrite(self.rows)
            self._file: TextIO = self.path.open("a", encoding="utf-8", newline="")
        except OSError as error:
            self._unlock()
            raise self._unreadable(error) from error
        except BaseException:
            self._unlock()
            raise

    def require(self, name: str, value: object) -> None:
        """Add a column whose value must be the same in the whole file, known only after the file was opened.

        Raises:
            InputError: A row has another value; rows without that column are of an earlier version, and pass.
        """
        for row in self.rows:
            self._check(row.get(name, value), name, value)
        self.same[name] = storable(value)

    def missing(self, keys: Iterable[Sequence[Hashable]]) -> list[int]:
        """Return the numbers of those keys that have no row yet."""
        here = Counter(self._key(row) for row in self.rows)
        wanted: list[int] = []
        for number, key in enumerate(map(_storable, keys)):
            if here[key] > 0:
                here[key] -= 1
            else:
                wanted.append(number)
        return wanted

    def append(self, row: Row) -> None:
        """Write a row, at once."""
        whole = {name: storable(value) for name, value in (self.same | dict(row)).items()}
        self.rows.append(whole)
        self._file.write(self._line(whole))
        self._file.flush()

    def sort(self, keys: Iterable[Sequence[Hashable]]) -> None:
        """Put the rows into the order of their keys; rows with other keys come last."""
        places: dict[Hashable, list[int]] = {}
        for number, key in enumerate(map(_storable, keys)):
            places.setdefault(key, []).append(number)
        taken: Counter[Hashable] = Counter()

        def place(row: Row) -> float:
            key = self._key(row)
            taken[key] += 1
            numbers = places.get(key, [])
            return numbers[taken[key] - 1] if taken[key] <= len(numbers) else float("inf")

        ordered = sorted(self.rows, key=place)
        if ordered != self.rows:
            self._file.close()
            self.rows = ordered
            self.rewrite(ordered)

    def rewrite(self, rows: Sequence[Row]) -> None:
        """Replace the content of the file, which is never half of the old and half of the new one."""
        part = self.path.with_name(f"{self.path.name}.part")
        begin = "" if self.path.suffix.lower() == ".jsonl" else "\ufeff" + _csv(self.columns)  # Excel reads the BOM
        part.write_text(begin + "".join(map(self._line, rows)), encoding="utf-8", newline="")
        part.replace(self.path)

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._file.close()
        self._unlock()

    def _unlock(self) -> None:
        self._lock.release()
        with suppress(OSError):
            Path(self._lock.lock_file).unlink()

    def _key(self, row: Row) -> tuple[Hashable, ...]:
        return tuple(row.get(name) for name in self.key)

    def _line(self, row: Row) -> str:
        if self.path.suffix.lower() == ".jsonl":
            return json.dumps({name: row[name] for name in self.columns if name in row}, ensure_ascii=False) + "\n"
        return _csv([row.get(name, "") for name in self.columns])

    def _read(self) -> list[Row]:
        """Return the complete rows of the file."""
        try:
            content = self.path.read_bytes()
            text = content[: content.rfind(b"\n") + 1].decode("utf-8-sig")  # what follows was cut off
        except FileNotFoundError:
            return []
        except UnicodeDecodeError as error:
            raise self._unreadable(error) from error
        if content and not text and not self._begins(content):
            raise InputError("rows_of_another_kind", path=self.path, columns=self.columns)
        read: Callable[[str], list[Row]] = self._jsonl if self.path.suffix.lower() == ".jsonl" else self._csv
        rows = read(text)
        for row in rows:
            for name, value in self.same.items():
                self._check(row.get(name), name, value)
        return rows

    def _check(self, found: object, name: str, value: object) -> None:
        if str(found) != str(value):
            raise InputError("rows_of_another_run", path=self.path, name=name, found=found, given=value)

    def _begins(self, content: bytes) -> bool:
        """Return whether content without a whole line may be the begin of a first row; CSV has its header at once."""
        begin = json.dumps({self.columns[0]: ""})[:-3].encode()  # up to the value
        return self.path.suffix.lower() == ".jsonl" and content[: len(begin)] == begin[: len(content)]

    def _jsonl(self, text: str) -> list[Row]:
        rows: list[Row] = []
        for number, line in enumerate(text.split("\n")[:-1], 1):  # a text may have U+2028 in it
            try:
                row = json.loads(line)
            except ValueError as error:
                raise self._unreadable(f"{number}: {error}") from error
            if not isinstance(row, dict) or not {*self.key} <= {*row}:
                raise InputError("rows_of_another_kind", path=self.path, columns=self.key)
            rows.append(row)
        return rows

    def _csv(self, text: str) -> list[Row]:
        table = csv.reader(io.StringIO(text, newline=""))
        header = next(table, None)
        if header is None:
            return []
        if tuple(header) != self.columns:
            raise InputError("rows_of_another_kind", path=self.path, columns=self.columns)
        return [dict(zip(header, row, strict=True)) for row in table if len(row) == len(header)]

    def _unreadable(self, reason: object) -> InputError:
        return InputError("rows_unreadable", path=self.path, reason=getattr(reason, "strerror", None) or reason)


def _storable(key: Sequence[Hashable]) -> tuple[Hashable, ...]:
    return tuple(map(storable, key))


def _csv(values: Sequence[Any]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(values)
    return line.getvalue()
