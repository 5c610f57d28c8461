"""Commands on a page, held against what they would run: does the flag exist, the file, the target, the endpoint?

Checked this way, not run: blocks that are indented, and in ```sh blocks the programs whose effect belongs to a cluster or to
the whole machine. A program that is not known here fails the test, so that nobody writes down what nobody tries.
"""

import re
import shlex
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer
import yaml

from stoker.cli import build
from stoker.client.client import Client
from stoker.gateway.app import create_app
from tests.built_programs import binary
from tests.docs.manifests import check_manifests
from tests.docs.pages import ROOT

_SEPARATORS = frozenset({"&&", "||", "|", ";", "&"})
_ASIDE = re.compile(r"\s{2,}(?![-'\"{]).*")
_GATEWAY = re.compile(r"(https?://)?(localhost|127\.0\.0\.1):8080(?=/|$)|https?://stoker-gateway[\w.-]*(?=/|$)")
_KUBECTL = frozenset(
    "annotate apply create delete describe events exec explain get label logs patch port-forward rollout scale top wait".split()  # noqa: SIM905
)
_RESOURCES = frozenset(
    (
        "crd",
        "namespace",
        "deployment",
        "deploy",
        "events",
        "node",
        "nodes",
        "pod",
        "pods",
        "secret",
        "secrets",
        "service",
        "svc",
        "tq",
    )
)


class DoubtfulError(AssertionError):
    """This command would not work."""


class Files:
    """What a command may name: files of the page, and of the checkout."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = (*folders, ROOT)

    def find(self, name: str) -> Path:
        for folder in self._folders:
            if (folder / name).exists():
                return folder / name
        raise DoubtfulError(f"there is no {name}")

    def read(self, name: str) -> str:
        return self.find(name).read_text()


def is_command(text: str) -> bool:
    """Whether an indented block begins with a program."""
    first = next(iter(text.split()), "")
    return first == "$" or first in PROGRAMS or (ROOT / first).is_file()


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a block, as words. A backslash at its end continues a line; what stands aside behind wide blanks is prose."""
    for line in text.replace("\\\n", " ").splitlines():
        words = _words(_ASIDE.sub("", line.strip().removeprefix("$ ")))
        while words:
            end = next((at for at, word in enumerate(words) if word in _SEPARATORS), len(words))
            yield from [words[:end]] if words[:end] else []
            words = words[end + 1 :]


def check(words: list[str], *folders: Path) -> None:
    """Raises DoubtfulError that says what is wrong with the command, which runs in one of the folders or in the checkout."""
    program, *arguments = words
    files = Files(folders)
    if program in PROGRAMS:
        PROGRAMS[program](arguments, files)
    elif (ROOT / program).is_file():
        _script([program, *arguments], files)
    else:
        raise DoubtfulError(f"nobody knows how to check {program!r}: teach tests/docs/commands.py")


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError as error:
        raise DoubtfulError(f"{line!r}: {error}") from error


def _stoker(arguments: list[str], files: "Files") -> None:
    command: Any = typer.main.get_command(build())
    path = ["stoker"]
    while subcommands := getattr(command, "commands", None):
        name, *arguments = arguments or [""]
        if name == "--help":
            return
        path.append(name)
        if name not in subcommands:
            raise DoubtfulError(f"there is no `{' '.join(path)}`, only {', '.join(subcommands)}")
        command = subcommands[name]
    try:
        command.make_context(path[-1], arguments)
    except typer.Exit:  # --help
        return
    except Exception as error:
        words = getattr(error, "format_message", error.__str__)()
        raise DoubtfulError(f"{' '.join(path)}: {words}") from error


def _make(arguments: list[str], files: "Files") -> None:
    targets = set(re.findall(r"^([a-z-]+):", files.read("Makefile"), re.MULTILINE))
    for argument in arguments:
        if "=" not in argument and argument not in targets:
            raise DoubtfulError(f"the Makefile has no target {argument!r}")


def _script(arguments: list[str], files: "Files") -> None:
    script, *rest = arguments
    text = files.read(script)
    for flag in (word.partition("=")[0] for word in rest if word.startswith("--") and word != "--help"):
        sources = [text, *(path.read_text() for path in files.find(script).parent.rglob("*.py"))]
        if not any(f'"{flag}"' in source or f"{flag})" in source for source in sources):
            raise DoubtfulError(f"{script} has no flag {flag}")


def _pytest(arguments: list[str], files: "Files") -> None:
    for argument in arguments:
        if argument.startswith("tests"):
            files.find(argument.partition("::")[0])


def _docker(arguments: list[str], files: "Files") -> None:
    verb, *rest = arguments
    if verb == "build":
        files.find(rest[-1])
        for flag, value in pairwise(rest):
            if flag == "-f":
                files.find(value)
    elif verb not in {"push", "run"}:
        raise DoubtfulError(f"docker {verb}: nobody knows how to check it")


def _helm(arguments: list[str], files: "Files") -> None:
    verb, *rest = arguments
    if verb in {"uninstall", "test", "status"}:
        return
    if verb not in {"install", "upgrade"}:
        raise DoubtfulError(f"helm {verb}: nobody knows how to check it")
    rest = [word for word in rest if word not in {"--install", "--wait", "--create-namespace"}]
    with tempfile.TemporaryDirectory() as home:
        command = [binary("helm"), "template", *rest]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={"HOME": home, "PATH": ""}, check=False)
    if done.returncode:
        raise DoubtfulError(f"helm {verb}: {done.stderr.strip()}")


def _kubectl(arguments: list[str], files: "Files") -> None:
    verb, *rest = [word for word in arguments if word not in {"-n", "stoker-system"}]
    if verb not in _KUBECTL:
        raise DoubtfulError(f"kubectl {verb}: nobody knows how to check it")
    for flag, value in pairwise(rest):
        if flag == "-f" and value != "-":
            check_manifests(files.read(value))
    if verb in {"get", "describe", "delete", "wait", "explain"} and "-f" not in rest:
        plural = yaml.safe_load(files.read("charts/stoker/files/crd.yaml"))["spec"]["names"]
        known = _RESOURCES | {plural["plural"], plural["singular"], *plural["shortNames"]}
        resource = next((word for word in rest if not word.startswith("-")), "")
        if resource.partition("/")[0].partition(".")[0] not in known:
            raise DoubtfulError(f"kubectl {verb} {resource}: what is that?")


def _pip(arguments: list[str], files: "Files") -> None:
    extras = set(tomllib.loads(files.read("worker/pyproject.toml"))["project"]["optional-dependencies"])
    for wanted in (word for word in arguments if word.startswith("stoker[")):
        if unknown := set(wanted.removeprefix("stoker[").removesuffix("]").split(",")) - extras:
            raise DoubtfulError(f"pip install: stoker has no extra {unknown}")


def _curl(arguments: list[str], files: "Files") -> None:
    found = next((word for word in arguments if _GATEWAY.match(word)), None)
    if found is None:
        if not any("://" in word or word.startswith(("localhost:", "127.0.0.1:")) for word in arguments):
            raise DoubtfulError("curl: where to?")
        return
    has_body = any(flag in arguments for flag in ("-d", "--data", "--json"))
    method = next((after for flag, after in pairwise(arguments) if flag in {"-X", "--request"}), "")
    path = urlsplit(_GATEWAY.sub("", found, count=1)).path or "/"
    methods = {verb for pattern, verbs in _endpoints() if re.fullmatch(pattern, path) for verb in verbs}
    if (method or ("POST" if has_body else "GET")).lower() not in methods:
        raise DoubtfulError(f"curl: the gateway has no {method or 'such'} {path}")


@cache
def _endpoints() -> list[tuple[str, set[str]]]:
    api = create_app(Client.at("redis://127.0.0.1:1/0", "test")).openapi()
    documented = [(re.sub(r"\{\w+\}", r"[^/]+", path), set(verbs)) for path, verbs in api["paths"].items()]
    return [*documented, ("/docs|/metrics|/openapi.json", {"get"})]


def _file_first(arguments: list[str], files: "Files") -> None:
    scripts = [word for word in arguments if not word.startswith("-")]
    if "-c" not in arguments and "-m" not in arguments and scripts and not scripts[0].startswith("app"):
        _script(scripts, files)


def _anything(_: list[str], __: "Files") -> None:
    """Runs the same everywhere."""


PROGRAMS: dict[str, Callable[[list[str], "Files"], None]] = {
    "bash": _script,
    "cd": _anything,
    "curl": _curl,
    "docker": _docker,
    "echo": _anything,
    "export": _anything,
    "gunicorn": _anything,
    "helm": _helm,
    "kubectl": _kubectl,
    "make": _make,
    "node": _file_first,
    "pip": _pip,
    "pytest": _pytest,
    "python": _file_first,
    "python3": _file_first,
    "redis-cli": _anything,
    "source": _anything,
    "stoker": _stoker,
    "uvicorn": _anything,
}
