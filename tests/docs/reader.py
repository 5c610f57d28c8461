"""Reads a page from top to bottom and does what it says, block by block."""

import doctest
import json
import re
from typing import Any

import httpx

from stoker.rules.message import decode, encode
from tests.docs import snippets
from tests.docs.commands import check, commands, is_command
from tests.docs.manifests import check_manifests
from tests.docs.pages import INDENTED, ROOT, Block
from tests.docs.sandbox import STAYS, Sandbox
from tests.docs.stuck import on_the_loop

DRAWN = frozenset({"mermaid", "text"})


class Reader:
    """Reads a page from top to bottom and does what it says."""

    def __init__(self, sandbox: Sandbox, page: list[Block]) -> None:
        self._sandbox = sandbox
        self._page = [block for block in page if not block.read]
        self._only_read = [block for block in page if block.read]
        self._names: dict[str, Any] | None = None

    async def read(self) -> None:
        for block in self._only_read:
            snippets.check_whole(block)
        try:
            written: set[str] = set()
            for block in self._page:
                name = snippets.file_of(block)
                if name and name not in written:
                    written.add(name)
                    self._sandbox.write(name, block.text)
            for block in self._page:
                try:
                    await self._try(block)
                except Exception as error:
                    error.add_note(f"{block.where}:\n{block.text}")
                    raise
        finally:
            await on_the_loop(self._sandbox.close(), self._sandbox.limit)

    async def _try(self, block: Block) -> None:
        match block.language:
            case "python":
                await self._python(block)
            case "sh":
                await self._side()
                await self._sandbox.shell(block)
            case "console":
                await self._side()
                await self._console(block)
            case "dockerfile":
                _image(block.text)
            case "redis":
                lines = block.text.replace("\\\n", " ").splitlines()
                await self._sandbox.shell(block._replace(text="\n".join(f"redis-cli {line}" for line in lines if line)))
            case "yaml":
                check_manifests(block.text)
            case "json":
                await self._json(block)
            case language if language == INDENTED:
                self._indented(block)
            case language if language not in DRAWN:
                raise AssertionError(
                    f"{block.where}: what is ```{language}? Take python, sh, console, redis, dockerfile, yaml, json or text"
                )

    async def _python(self, block: Block) -> None:
        if name := snippets.file_of(block):
            if (self._sandbox.folder / name).read_text() != block.text:
                self._sandbox.write(name, block.text)
            self._sandbox.module(name.removesuffix(".py").replace("/", "."))
        elif snippets.defines(block):
            self._module()
        else:
            names = self._module()
            await self._side()
            await snippets.run(block, names, self._sandbox.limit)

    def _module(self) -> dict[str, Any]:
        if self._names is None:
            definitions = [b for b in self._page if b.language == "python" and not snippets.file_of(b) and snippets.defines(b)]
            self._sandbox.write("page.py", snippets.as_module(definitions))
            self._names = vars(self._sandbox.module("page"))
        return self._names

    async def _side(self) -> None:
        own = any(block.language == "sh" and STAYS.match(block.text) for block in self._page)
        if not own:
            await self._sandbox.work()

    async def _json(self, block: Block) -> None:
        body = json.loads(block.text)
        if "created" in body:  # an envelope: read and written again, it is the same
            assert json.loads(encode(decode(block.text.encode()))) == body
        elif "task" in body:
            async with httpx.AsyncClient() as http:
                answer = await http.post(f"http://127.0.0.1:{await self._sandbox.gateway()}/v1/tasks", json=body)
            assert answer.is_success, f"{block.where}: {answer.text}"

    def _indented(self, block: Block) -> None:
        if is_command(block.text):
            for words in commands(block.text):
                check(words, self._sandbox.folder, block.page.parent)
        else:
            first = block.text.lstrip()
            assert not first.startswith(("@", "await ", "from ", "import ", "spec:", "apiVersion:", "{")), (
                f"{block.where}: fence it as ```python, ```yaml or ```json, so that it is tried"
            )

    async def _console(self, block: Block) -> None:
        for talk in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, expected = talk.partition("\n")
            said = await self._sandbox.shell(block._replace(text=command))
            same = doctest.OutputChecker().check_output(expected, said, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            assert same, f"{command} said:\n{said}"


def _image(text: str) -> None:
    """The base is one of ours, or what ours is made of, and it does not run as root."""
    [base] = re.findall(r"^FROM (\S+)$", text, re.MULTILINE)
    ours = (ROOT / "Dockerfile.worker").read_text()
    assert base in ours, f"{base} is not built here"
    assert "USER root" not in text or text.rindex("USER 65532:65532") > text.rindex("USER root")
