"""Opens the honest folder argv[1] and then each other folder or recipe, as if it came from the Hub. For Linux.

Prints a JSON line for each: path, outcome, additional megabytes of memory, seconds, and what it read or asked for outside the
folder.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import zoo
from zoo.core.errors import ZooError
from zoo.recipe import recipe

REQUESTS = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system")
OWN = [sys.prefix, sys.base_prefix, *filter(None, sys.path), "/proc", "/sys", "/dev", "/usr"]
allowed: list[str] = []
outside: list[str] = []


def record(event: str, arguments: Any) -> None:
    """Record every file that Python opens outside the folder and outside its own libraries, and every request."""
    if event in REQUESTS:
        outside.append(f"{event}: {arguments[1:]}")
    elif event == "open" and isinstance(arguments[0], str | bytes) and allowed:
        opened = os.path.realpath(os.fsdecode(arguments[0]))
        if not opened.startswith(tuple(allowed)):
            outside.append(opened)


def read_megabytes(name: str) -> float:
    match = re.search(name + r":\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) / 1024


def open_path(path: str) -> None:
    if path.endswith(".yaml"):
        recipe.loads(Path(path).read_text(), folder=Path(), file=path, confined=True)
        return
    encoder = zoo.from_pretrained(path)
    if "text" in encoder.modalities:
        encoder.encode(["the dog", "the dog and the cat " * 50])


def main() -> None:
    open_path(sys.argv[1])
    sys.addaudithook(record)
    for path in sys.argv[2:]:
        allowed[:] = [os.path.realpath(place) for place in (*OWN, Path(zoo.__file__).parents[1], path)]
        outside.clear()
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory is counted from here
        memory, start = read_megabytes("VmRSS"), time.perf_counter()
        try:
            open_path(path)
            outcome = "opened"
        except ZooError as error:
            outcome = "refused: " + str(error)[:200]
        except BaseException as error:
            outcome = f"crashed: {type(error).__name__}: {error}"[:200]
        seconds = time.perf_counter() - start
        line = json.dumps([path, outcome, read_megabytes("VmHWM") - memory, seconds, outside[:3]])
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


main()
