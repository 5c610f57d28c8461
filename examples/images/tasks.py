"""From a picture's address to a sheet of its thumbnails: fetched on the event loop, scaled in child processes, then joined."""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
from PIL import Image, UnidentifiedImageError

from stoker import INJECTED, Chain, Dead, Retry, State, Stoker, chain, group

FOLDER = Path(os.environ.get("PICTURES", "pictures"))
SIDES = (64, 128, 256)
MOST_BYTES = 20 << 20
ONLY_IF_IT_MAY_HELP = Retry(max_retries=3, never=(TimeoutError, Image.DecompressionBombError, UnidentifiedImageError))


@asynccontextmanager
async def lifespan(_: Stoker) -> AsyncIterator[httpx.AsyncClient]:
    """One pool of connections for the whole life of a worker."""
    async with httpx.AsyncClient(timeout=10, follow_redirects=True) as http:
        yield http


app = Stoker("images", lifespan=lifespan)


@app.task(queue="images", timeout=60)
async def fetch(url: str, http: State[httpx.AsyncClient] = INJECTED) -> str:
    """Keep the picture in a file, and give its path: objects stay out of messages."""
    path = FOLDER / hashlib.sha256(url.encode()).hexdigest()[:16]
    draft = draft_of(path)
    async with http.stream("GET", url) as response:
        if response.is_client_error:
            raise Dead(f"{url}: {response.status_code} {response.reason_phrase}")
        response.raise_for_status()
        with draft.open("wb") as file:
            async for chunk in response.aiter_bytes():
                if file.write(chunk) and file.tell() > MOST_BYTES:
                    raise Dead(f"{url}: larger than {MOST_BYTES >> 20} MiB")
    return str(draft.replace(path))


@app.task(queue="images", executor="process", timeout=5, retry=ONLY_IF_IT_MAY_HELP)
def thumbnail(path: str, side: int) -> str:
    """Scale it down. Whatever the file does to the decoder, after five seconds its process is killed."""
    with Image.open(path) as picture:
        picture.seek(getattr(picture, "n_frames", 1) - 1)  # of an animation the last frame: the first is often empty
        picture.thumbnail((side, side))
        return save(picture, Path(f"{path}.{side}.png"))


@app.task(queue="images", executor="process", timeout=5)
def contact_sheet(paths: list[str]) -> str:
    """All thumbnails side by side, on white."""
    pictures = [Image.open(path) for path in paths]
    sheet = Image.new("RGB", (sum(each.width for each in pictures), max(each.height for each in pictures)), "white")
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width
    return save(sheet, Path(paths[0].removesuffix(f".{SIDES[0]}.png") + ".sheet.png"))


def sheet_of(url: str) -> Chain[object, str]:
    """The whole way, as one workflow that results in the sheet's path."""
    return chain(fetch.prepare(url), group(*(thumbnail.piped(side=side) for side in SIDES)), contact_sheet.piped())


def save(picture: Image.Image, path: Path) -> str:
    """Whole or not at all: a run that is killed, or runs twice, leaves no half a picture."""
    draft = draft_of(path)
    picture.convert("RGB").save(draft, "PNG")
    return str(draft.replace(path))


def draft_of(path: Path) -> Path:
    """Where to write what has no name yet; two runs have two."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{path.name}.{uuid4().hex}.draft")
