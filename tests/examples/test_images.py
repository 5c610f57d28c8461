"""examples/images: a workflow that computes, and pictures that are not what they seem."""

import asyncio
import hashlib
import json
import struct
import threading
import zlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from PIL import Image, ImageChops

from tests.examples.stage import Stage, staged
from tests.redis_servers import Server
from tests.waiting import until


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def stage(own_valkey: Server, tmp_path: Path) -> Iterator[Stage]:
    """The example, and a web server with what is in `gallery`."""
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=gallery))
    threading.Thread(target=server.serve_forever).start()
    try:
        with staged("images", own_valkey, tmp_path) as stage:
            stage.environment["PICTURES"] = str(tmp_path / "pictures")
            stage.places["localhost:8001"] = f"127.0.0.1:{server.server_port}"
            yield stage
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def gallery(stage: Stage, tmp_path: Path) -> Path:
    return tmp_path / "gallery"


def paint(path: Path, width: int, height: int, colour: str) -> None:
    Image.new("RGB", (width, height), colour).save(path)


def endless(frames: int = 60_000, side: int = 3000) -> bytes:
    """A small animation that takes the better part of an hour to look at: each frame is one pixel on a large canvas."""
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
    frame = b"!\xf9\x04\x04\x01\x00\x00\x00" + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + frame * frames + b";"


def enormous() -> bytes:
    """The beginning of a picture that says it is 60,000 pixels wide and high."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b""))


def outcomes(said: str) -> dict[str, str]:
    """What became of each picture, by its name."""
    return {url.rpartition("/")[2]: what for url, _, what in (line.partition(" ") for line in said.splitlines())}


def has_open(process: psutil.Process, path: Path) -> bool:
    try:
        return any(file.path == str(path) for file in process.open_files())
    except psutil.Error:  # it has just ended
        return False


async def test_the_commands_of_the_page(stage: Stage, gallery: Path) -> None:
    paint(gallery / "cat.jpg", 800, 600, "red")
    paint(gallery / "dog.jpg", 300, 900, "blue")
    await stage.up()
    found = outcomes(await stage.run("python sheet.py"))
    for name, size, colour in (("cat.jpg", (64 + 128 + 256, 192), "red"), ("dog.jpg", (21 + 43 + 85, 256), "blue")):
        with Image.open(found[name].removeprefix("-> ")) as sheet:
            assert sheet.size == size
            corner = sheet.crop((0, 0, 16, 16))
            assert max(high for _, high in ImageChops.difference(corner, Image.new("RGB", (16, 16), colour)).getextrema()) < 8
    assert not list((stage.folder / "pictures").glob("*")), "nothing is written where nobody said so"


async def test_a_picture_that_never_ends_delays_no_other(stage: Stage, gallery: Path, tmp_path: Path) -> None:
    (gallery / "endless.gif").write_bytes(endless())
    (gallery / "enormous.png").write_bytes(enormous())
    (gallery / "letter.png").write_text("no picture at all")
    good = [f"{number}.png" for number in range(6)]
    for name in good:
        paint(gallery / name, 200, 100, "green")
    await stage.up()
    urls = [f"http://{stage.places['localhost:8001']}/{name}" for name in ("endless.gif", "enormous.png", "letter.png", *good)]
    asking = asyncio.create_task(stage.shell(f"python sheet.py {' '.join(urls)}"))
    kept = tmp_path / "pictures" / hashlib.sha256(urls[0].encode()).hexdigest()[:16]
    busy = await until(lambda: [process for process in stage.processes if has_open(process, kept)], 30)

    found = outcomes(await asking)
    assert "TaskTimeout: did not end within 5 s" in found["endless.gif"]
    assert "DecompressionBombError" in found["enormous.png"]
    assert "UnidentifiedImageError" in found["letter.png"]
    for name in good:
        with Image.open(found[name].removeprefix("-> ")) as sheet:
            assert sheet.size == (64 + 128 + 200, 100)
    await until(lambda: not any(process.is_running() for process in busy))
    assert outcomes(await stage.shell(f"python sheet.py {urls[-1]}"))[good[-1]] == found[good[-1]], "there are children again"
    dead = json.loads(await stage.shell("stoker dead list --queue images --json"))
    assert {each["attempts"] for each in dead} == {1}, "what will not get better was not tried again"
