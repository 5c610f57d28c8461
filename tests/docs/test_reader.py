"""Pages that lie are caught: each of these says one thing that is not so."""

from pathlib import Path

import pytest

from tests.docs.pages import blocks
from tests.docs.reader import Reader
from tests.docs.sandbox import LIMIT, Sandbox
from tests.redis_servers import Server

APP = """```python
from stoker import Stoker

app = Stoker("shop")


@app.task()
async def double(number: int) -> int:
    return number * 2
```
"""
TRUE = [
    f"{APP}\n```python\nprint(await (await double.enqueue(21)).result(timeout=10))  # -> 42\n```\n",
    f"{APP}\n```python\nawait double.options(priority=1000).enqueue(1)  # raises Invalid: bad priority\n```\n",
    APP.replace("from", "# shop/tasks.py\nfrom") + "\n```console\n$ stoker worker shop.tasks:app --check\ndouble\n```\n",
    "<!-- test: sh\necho 7 > seven\n-->\n\n```console\n$ cat seven\n7\n```\n",
    "<!-- test: skip because it is a joke -->\n```python\n1 / 0\n```\n",
    "<!-- test: read because it is of another library -->\n```python\nimport other as o\n\n\ndef f(a):\n    return o.g(a)\n```\n",
    "    stoker dead redrive --per-second 5     all that failed\n",
    '```json\n{"task": "double", "payload": {"number": 1}}\n```\n',
    "```sh\ncurl localhost:8080/healthz\n```\n",
]
LIES = [
    pytest.param(
        f"{APP}\n```python\nprint(await (await double.enqueue(21)).result(timeout=10))  # -> 43\n```\n", "said 42", id="print"
    ),
    pytest.param("```python\n1 + 1  # -> 3\n```\n", "said 2, not 3", id="a value"),
    pytest.param("```python\nx = 1  # -> 1\n```\n", "nothing was said by the lines", id="a line that says nothing"),
    pytest.param("```python\nint('7')  # raises ValueError\n```\n", "nothing was raised", id="no error"),
    pytest.param("```python\nint('x')  # raises KeyError\n```\n", "raised ValueError", id="another error"),
    pytest.param("```python\nawait nobody.enqueue()\n```\n", "nobody", id="a name"),
    pytest.param("<!-- test: read because of it -->\n```python\nx = q(1)\n```\n", "nothing says what q is", id="a name, only read"),
    pytest.param("```python\nfrom stoker import Pipeline\n```\n", "Pipeline", id="an import"),
    pytest.param("    stoker dead redrive --at-once\n", "--at-once", id="a flag"),
    pytest.param("```sh\nstoker statistics\n```\n", "No such command", id="a command"),
    pytest.param("```sh\nstoker enqueue double --queue 'Not A Queue'\n```\n", "bad queue name", id="a command that fails"),
    pytest.param("    curl localhost:8080/v1/tusks\n", "no such /v1/tusks", id="an endpoint"),
    pytest.param('```json\n{"task": "double", "pay": {}}\n```\n', "pay", id="a field of a request"),
    pytest.param("```yaml\nspec: {worker: {image: a, app: b}, replica: 3}\n```\n", "replica", id="a field of a TaskQueue"),
    pytest.param("    make tests\n", "no target 'tests'", id="a target"),
    pytest.param("    kubectl apply -f k8s/samples/none.yaml\n", "there is no k8s", id="a file"),
    pytest.param("    helm install stoker charts/stoker --set redis.size=big\n", "helm install", id="a value of the chart"),
    pytest.param("```console\n$ echo 7\n8\n```\n", "said:\n7", id="output"),
    pytest.param("```sh\nmake tests\n```\n", "no target", id="what is not run either"),
    pytest.param("    stoker stats\n    frobnicate --all\n", "nobody knows how to check", id="a strange program"),
    pytest.param("```\nwhatever\n```\n", "what is", id="no language"),
    pytest.param("    await double.enqueue(1)\n", "fence it", id="hidden from the test by its indent"),
    pytest.param("```sh\nfrobnicate --all\n```\n", "command not found", id="a program"),
]
HANGS = [
    pytest.param("```python\nimport asyncio\n\nawait asyncio.Event().wait()\n```\n", "await fut", id="on the loop"),
    pytest.param("```python\nimport threading\n\nprint(threading.Event().wait())\n```\n", 'page.md", line 4', id="in a thread"),
    pytest.param("```sh\necho begun\nsleep 60 & wait\n```\n", "it said: begun", id="in a shell"),
    pytest.param(
        """```python
import asyncio


async def loses_one_cancellation() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()


await loses_one_cancellation()
```
""",
        "in loses_one_cancellation",
        id="cancelled in vain",
    ),
]


async def read(text: str, folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch, limit: float = LIMIT) -> None:
    monkeypatch.setenv("STOKER_REDIS_URL", server.url)
    page = folder / "page.md"
    page.write_text(text)
    with Sandbox(folder, server, limit) as sandbox:
        await Reader(sandbox, [block for block in blocks(page) if not block.skipped]).read()


@pytest.mark.parametrize("text", TRUE)
async def test_a_true_page_passes(text: str, tmp_path: Path, own_valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    await read(text, tmp_path, own_valkey, monkeypatch)


@pytest.mark.parametrize(("text", "complaint"), LIES)
async def test_a_lie_is_caught(
    text: str, complaint: str, tmp_path: Path, own_valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Exception) as caught:
        await read(text, tmp_path, own_valkey, monkeypatch)
    assert complaint in " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


@pytest.mark.parametrize(("text", "story"), HANGS)
async def test_what_does_not_end_fails_and_says_where_it_stands(
    text: str, story: str, tmp_path: Path, own_valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match="not done within 1 s") as caught:
        await read(text, tmp_path, own_valkey, monkeypatch, limit=1)
    assert story in str(caught.value)


async def test_a_program_that_ends_at_its_start_says_why(
    tmp_path: Path, own_valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match="no module named 'nowhere'"):
        await read("```sh\nstoker worker nowhere:app\n```\n", tmp_path, own_valkey, monkeypatch)
