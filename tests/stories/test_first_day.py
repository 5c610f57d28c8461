"""What a first day meets: several modules, layouts of projects, factories, settings in pyproject.toml, tasks without a result."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from stoker import Invalid, Stoker, TaskState, chain
from stoker.testing.kit import run
from tests.stories.working import working

APP = "from stoker import Stoker\napp = Stoker('shop', include=['shop.mail'])\napp.discover('shop.jobs')\n"
TASK = "from {app} import app\n@app.task()\ndef {name}() -> str:\n    return '{name}'\n"


def project(folder: Path, **files: str) -> Path:
    """A folder with these files, `a__b` for a/b.py, and an __init__.py in each folder of it."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        for within in path.relative_to(folder).parents:
            if str(within) != ".":
                (folder / within / "__init__.py").touch()
        path.write_text(text)
    return folder


def shop(folder: Path) -> Path:
    return project(
        folder,
        shop__app=APP,
        shop__mail=TASK.format(app="shop.app", name="send"),
        shop__jobs__clean=TASK.format(app="..app", name="clean"),  # a relative import
        shop__jobs__deep__down=TASK.format(app="shop.app", name="dive"),
    )


async def stoker(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command line to its end: the exit code, and what it has printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stoker", *arguments),
        env={**kept, **environment},
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode().strip()


async def tasks_of(folder: Path, app: str, **environment: str) -> Sequence[str]:
    code, said = await stoker(folder, "worker", app, "--check", **environment)
    assert code == 0, said
    return said.split()


async def test_tasks_in_several_modules_of_one_app(tmp_path: Path) -> None:
    """Included modules and whole packages are imported by the worker, so that they may import the app themselves."""
    assert await tasks_of(shop(tmp_path), "shop.app:app") == ["clean", "dive", "send"]


async def test_a_project_in_src_says_how_to_find_it(tmp_path: Path) -> None:
    shop(tmp_path / "src")
    code, said = await stoker(tmp_path, "worker", "shop.app:app", "--check")
    assert (code, said.splitlines()[0].startswith("error: no module named 'shop'")) == (1, True)
    assert "install the project (pip install -e .) or set PYTHONPATH=src" in said
    assert await tasks_of(tmp_path, "shop.app:app", PYTHONPATH="src") == ["clean", "dive", "send"]


@pytest.mark.parametrize("spelling", ["made:create_app", "made:create_app()"])
async def test_a_factory_makes_the_app(tmp_path: Path, spelling: str) -> None:
    source = "from stoker import Stoker\ndef send() -> None: ...\n"
    project(tmp_path, made=f"{source}def create_app():\n    app = Stoker('shop')\n    app.task()(send)\n    return app\n")
    assert await tasks_of(tmp_path, spelling) == ["send"]


async def test_entry_points_of_installed_distributions_bring_tasks(tmp_path: Path) -> None:
    project(tmp_path, shop="from stoker import Stoker\napp = Stoker('shop')\napp.discover(entry_points=True)\n")
    project(tmp_path, plugin="def ship() -> None: ...\ndef register(app):\n    app.task()(ship)\n")
    about = tmp_path / "plugin-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[stoker.tasks]\nplugin = plugin:register\n")
    assert await tasks_of(tmp_path, "shop:app", PYTHONPATH=str(tmp_path)) == ["ship"]


@pytest.mark.parametrize(
    ("app", "words"),
    [
        pytest.param(
            "Stoker('s', include=['nowhere.mail'])", "no module named 'nowhere' in", id="an included module that is not there"
        ),
        pytest.param("Stoker('s', include=['fails'])", "fails.py:2", id="one that fails"),
        pytest.param("Stoker('s', include=['.mail'])", "write its whole name", id="a relative one"),
        pytest.param("Stoker('s', include='mail')", "use a list of modules", id="no list"),
        pytest.param("lambda: 7", "the factory returns int", id="a factory of something else"),
        pytest.param("lambda name: 7", "the factory failed, called without arguments: TypeError", id="a factory with parameters"),
    ],
)
async def test_what_does_not_load_is_one_clear_line(tmp_path: Path, app: str, words: str) -> None:
    project(tmp_path, shop=f"from stoker import Stoker\napp = {app}\n", fails="\nimport_that_fails()\n")
    code, said = await stoker(tmp_path, "worker", "shop:app", "--check")
    assert code == 1
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
    assert words in said


@pytest.mark.parametrize("path", ["shop/app.py:app", "./shop/app:app"])
async def test_a_file_instead_of_a_module_says_how_it_is_written(tmp_path: Path, path: str) -> None:
    code, said = await stoker(shop(tmp_path), "worker", path, "--check")
    assert (code, said) == (1, f"error: bad app {path!r}: name the module as an import does, shop.app:app")


SCRIPT = """
from stoker import Stoker

app = Stoker("shop")

@app.task()
def add(a: int, b: int) -> int:
    return a + b

if __name__ == "__main__":
    print(add.name, add.enqueue_sync(1, 2).result_sync(timeout=20))
"""


async def test_tasks_of_a_script_and_of_a_prompt_are_those_of_its_module(tmp_path: Path, redis_url: str) -> None:
    """In `__main__` a task is named as on the worker; on the prompt of Python a task is enqueued without an event loop."""
    project(tmp_path, script=SCRIPT)
    environment = {**os.environ, "STOKER_REDIS_URL": redis_url, "STOKER_NAMESPACE": "stoker", "STOKER_PORT": "0"}
    python = [sys.executable, "-m", "stoker", "worker", "script:app"]
    worker = await asyncio.create_subprocess_exec(*python, env=environment, cwd=tmp_path, stderr=asyncio.subprocess.DEVNULL)

    async def run_python(*flags: str, typed: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *flags),
            env=environment,
            cwd=tmp_path,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate(typed.encode())
        return said.decode()

    try:
        assert await run_python("script.py") == "add 3\n"
        said = await run_python("-i", "-q", typed="from script import *\nadd.enqueue_sync(20, 3).result_sync(timeout=20)\n")
        assert "23" in said
        assert "InvalidArguments: arguments do not fit add" in await run_python(
            "-i", typed="from script import *\nadd.enqueue_sync('2', 3)\n"
        )
    finally:
        worker.terminate()
        await worker.wait()


async def test_settings_in_pyproject_toml(tmp_path: Path) -> None:
    """A flag has precedence over the environment, that over the file, the file over the default."""
    shop(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.stoker]\napp = "shop.app:app"\nconcurrency = 0\n')
    below = tmp_path / "shop"
    assert (await stoker(below, "worker", "--check", PYTHONPATH=str(tmp_path)))[0] == 2
    assert await tasks_of(below, "shop.app:app", PYTHONPATH=str(tmp_path), STOKER_CONCURRENCY="4") == ["clean", "dive", "send"]
    code, said = await stoker(below, "worker", "--check", PYTHONPATH=str(tmp_path), STOKER_CONCURRENCY="0")
    assert (code, "--concurrency" in said) == (2, True)
    code, said = await stoker(below, "worker", "--check", "-c", "4", PYTHONPATH=str(tmp_path), STOKER_CONCURRENCY="0")
    assert (code, said.split()) == (0, ["clean", "dive", "send"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param('que = "emails"', "[tool.stoker] que: no such setting; did you mean queue?", id="nearly right"),
        pytest.param("rhubarb = 1", "rhubarb: no such setting: there are", id="nothing like it"),
        pytest.param("queue = [1]", "use a text, a number, true or false, not list", id="of another type"),
        pytest.param('redis_url = "redis://u:hunter2@h/0"', "set STOKER_REDIS_URL", id="a password in the repository"),
        pytest.param("queue = ", "pyproject.toml is not TOML", id="not TOML"),
    ],
)
async def test_a_wrong_setting_in_pyproject_toml_says_what_was_meant(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.stoker]\n{line}\n")
    code, said = await stoker(tmp_path, "worker", "shop:app", "--check")
    assert code == 1
    assert words in said
    assert "hunter2" not in said


async def test_a_task_that_ignores_its_result_keeps_none_and_says_so(redis_url: str) -> None:
    app = Stoker("shop", redis=redis_url)

    @app.task(ignore_result=True)
    def draw() -> list[int]:
        return [7] * 200_000  # more than is ever kept

    @app.task(ignore_result=True)
    def number() -> int:
        return 7

    @app.task()
    def double(value: int) -> int:
        return 2 * value

    async with working(app):
        drawn, doubled = await draw.enqueue(), await chain(number.prepare(), double.piped()).enqueue()
        assert await doubled.result(timeout=5) == 14
        with pytest.raises(Invalid, match="task draw keeps no result"):
            await drawn.result(timeout=5)
        status = await app.client.wait("default", drawn.id, 5)
        assert (status.state, status.result and bytes(status.result.value)) == (TaskState.SUCCEEDED, b"null")
    await app.close()


async def test_the_testing_kit_loads_what_is_included_and_knows_of_ignored_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path, kit_shop="from stoker import Stoker\napp = Stoker('kit', include=['kit_tasks'])\n")
    project(tmp_path, kit_tasks="from kit_shop import app\n@app.task(ignore_result=True)\ndef ring() -> int:\n    return 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import kit_shop  # type: ignore[import-not-found]

    async with run(kit_shop.app) as kit:
        await kit_shop.app.tasks["ring"].enqueue()
        [ran] = await kit.run_until_idle()
    assert (ran.outcome, ran.result) == ("succeeded", None)


async def test_two_apps_in_one_process_share_nothing(redis_url: str) -> None:
    shop, bank = Stoker("shop", redis=redis_url), Stoker("bank", redis=redis_url, namespace="bank")

    @shop.task()
    def pay() -> str:
        return "shop"

    @bank.task(name="pay")
    def settle() -> str:
        return "bank"

    handles = await pay.enqueue(), await settle.enqueue()
    async with working(bank):
        assert await handles[1].result(timeout=5) == "bank"
        assert (await handles[0].status()).state is TaskState.READY
    async with working(shop):
        assert await handles[0].result(timeout=5) == "shop"
    await shop.close()
    await bank.close()
