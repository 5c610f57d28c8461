"""Python on a page: what defines becomes a module that workers import, what awaits or prints is run.

A block that begins with a comment such as `# shop/tasks.py` is that file. All others of a page are one module, `page`, in
which each line keeps the number that it has on the page. Two kinds of comment say what must come of a line:

    print(await handle.result())          # -> 72
    handle.duplicate                      # -> True
    await charge.enqueue(42)              # raises Conflict
"""

import ast
import builtins
import doctest
import inspect
import re
from collections.abc import Callable
from typing import Any

from tests.docs.pages import Block
from tests.docs.stuck import in_a_thread, on_the_loop

_FILE = re.compile(r"# (?P<name>[\w/]+\.py)\n")
_EXPECTED = re.compile(r"#\s*(?P<verb>->|raises)\s*(?P<what>\S.*?)\s*$")
_CHECKER = doctest.OutputChecker()


def file_of(block: Block) -> str | None:
    """The file that the block is, if it is one."""
    found = _FILE.match(block.text)
    return found["name"] if found else None


def defines(block: Block) -> bool:
    """Whether an application would have it in a module: it neither awaits nor prints nor promises something."""
    if _code(block).co_flags & inspect.CO_COROUTINE or _promises(block):
        return False
    return not any(_prints(statement) for statement in ast.parse(block.text).body)


def check_whole(block: Block) -> None:
    """For Python that cannot run here. Raises AssertionError where it is none, or has a name from nowhere."""
    _code(block)
    used, known = set(), set(dir(builtins))
    for node in ast.walk(ast.parse(block.text)):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                known.add(name)
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)) | ast.alias(asname=str(name)):
                known.add(name)
            case ast.alias(name=name):
                known.add(name.partition(".")[0])
    assert not used - known, f"{block.where}: nothing says what {', '.join(sorted(used - known))} is"


def as_module(definitions: list[Block]) -> str:
    """One module of them, each line where it stands on the page."""
    lines: list[str] = []
    for block in definitions:
        lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n"


async def run(block: Block, names: dict[str, Any], limit: float) -> None:
    """Run it among these names: on the loop where it awaits, otherwise in a thread, as it would block. Raises Stuck."""
    promises = Promises(_promises(block))
    names |= {"print": promises.print, "_promised": promises}
    code = _code(block, promises.into)
    if code.co_flags & inspect.CO_COROUTINE:
        await on_the_loop(eval(code, names), limit)
    else:
        await in_a_thread(lambda: eval(code, names), limit)
    assert not promises.open, f"{block.where}: nothing was said by the lines {sorted(promises.open)}"


class Promises:
    """What the lines of a block must say. Each line that has said it is crossed off."""

    def __init__(self, expected: dict[int, tuple[str, str]]) -> None:
        self.open = expected
        self._printed = ""

    def print(self, *values: Any, **options: Any) -> None:
        """Prints, and remembers it."""
        builtins.print(*values, **options)
        self._printed = str(options.get("sep", " ")).join(str(value) for value in values)

    def printed(self, line: int, _: None) -> None:
        """Called around a line that prints."""
        self._compare(line, self._printed)

    def value(self, line: int, value: Any) -> None:
        """Called around a line that is a value."""
        self._compare(line, repr(value), str(value))

    def raised(self, line: int, error: BaseException | None) -> None:
        """Called behind a line that must raise, with its error."""
        _, expected = self.open.pop(line)
        kind, _, words = expected.partition(": ")
        assert error is not None, f"nothing was raised, not {expected}"
        assert type(error).__name__ == kind, f"raised {error!r}, not {expected}"
        assert words in str(error), f"raised {error!r}, not {expected}"

    def into(self, tree: ast.Module) -> ast.Module:
        """The block with calls of the above at the lines that promise something."""
        return ast.fix_missing_locations(_Instrument(self.open).visit(tree))

    def _compare(self, line: int, *said: str) -> None:
        _, expected = self.open.pop(line)
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert any(_CHECKER.check_output(expected, each, flags) for each in said), f"said {said[0]}, not {expected}"


class _Instrument(ast.NodeTransformer):
    def __init__(self, expected: dict[int, tuple[str, str]]) -> None:
        self._expected = expected

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        line = node.end_lineno or 0
        match self._expected.get(line):
            case ("->", _):
                call = ast.Call(_attribute("printed" if _prints(node) else "value"), [ast.Constant(line), node.value], [])
                return ast.copy_location(ast.Expr(call), node)
            case ("raises", _):
                text = f"try: 0\nexcept Exception as _e: _promised.raised({line}, _e)\nelse: _promised.raised({line}, None)"
                [attempt] = ast.parse(text).body
                assert isinstance(attempt, ast.Try)
                attempt.body = [node]
                return ast.copy_location(attempt, node)
        return node


def _attribute(name: str) -> ast.Attribute:
    return ast.Attribute(ast.Name("_promised", ast.Load()), name, ast.Load())


def _prints(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value=ast.Call(func=ast.Name(id="print"))):
            return True
    return False


def _promises(block: Block) -> dict[int, tuple[str, str]]:
    lines = enumerate(block.text.splitlines(), 1)
    return {number: (found["verb"], found["what"]) for number, line in lines if (found := _EXPECTED.search(line))}


def _code(block: Block, change: Callable[[ast.Module], ast.Module] = lambda tree: tree) -> Any:
    try:
        tree = change(ast.parse(block.text))
        ast.increment_lineno(tree, block.line - 1)
        return compile(tree, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        raise AssertionError(f"{block.where}: not Python: {error}") from error
