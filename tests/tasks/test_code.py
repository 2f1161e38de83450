"""The program in a response, and the program that tests it."""

import pytest

from mdm_jax.tasks.prompted.code import extract_code, hoist_future_imports
from mdm_jax.tasks.prompted.humaneval import Exercise, program
from mdm_jax.tasks.prompted.programs import Limits, passes

CODE = "def f():\n    return 1\n"
NESTED = 'def f():\n    """Such as\n\n    ```python\n    f()\n    ```\n    """\n    return 1\n'


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"```python\n{CODE}```\nIt works.", CODE),
        (f"Here:\n\n```python3\n{CODE}```\nIt works.", CODE),
        (f"``` python\n{CODE}```", CODE),
        (f"```Python\n{CODE}```", CODE),
        (f"```py title=a.py\n{CODE}```", CODE),
        (f"```{{.python}}\n{CODE}```", CODE),
        (f"```\n{CODE}```", CODE),
        (f"~~~python\n{CODE}~~~", CODE),
        (f"```python\r\n{CODE}```".replace("\n", "\r\n").replace("\r\r", "\r"), CODE),
        (f"{CODE}```\nIt works.", CODE),
        (f"{CODE}```", CODE),
        (f"```bash\npip install x\n```\n```python\n{CODE}```", CODE),
        (f"```\n$ python\n```\n```python\n{CODE}```", CODE),
        (f"```python\nf()\n```\nwith\n```python\n{CODE}```", CODE),
        (f"```python\n{CODE}```\n```python\nprint(f())\n```", CODE),
        (f"```python\n{CODE}", CODE + "\n"),  # cut off
        (f"```python\n{NESTED}```", NESTED),
        (f"````python\nx = '''\n```\n'''\n{CODE}````", f"x = '''\n```\n'''\n{CODE}"),
        ("```\n    return 1\n```", "    return 1\n"),  # the prompt continues
        (CODE, CODE),
        ("", ""),
    ],
)
def test_the_program_is_found(text, code):
    assert extract_code(text) == code


def test_future_imports_come_first():
    source = f"import os\nfrom __future__ import annotations\n{CODE}"
    assert hoist_future_imports(source).startswith("from __future__ import annotations\nimport os")
    compile(hoist_future_imports(source), "x", "exec")
    both = "x = 1\nfrom __future__ import (\n    annotations,\n    division,\n)\n"
    compile(hoist_future_imports(both), "x", "exec")
    assert hoist_future_imports(CODE) == CODE


ADD = Exercise(
    "X/0",
    'from typing import List\n\ndef helper(x):\n    return x\n\ndef f(x):\n    """add one"""\n',
    "",
    "def check(c):\n    assert c(1) == 2\n",
    "f",
)
WHOLE = "def f(x):\n    return x + 1\n"
GUARD = "if __name__ == '__main__':\n"


@pytest.mark.parametrize(
    ("code", "right"),
    [
        (WHOLE, True),
        ("    return x + 1\n", True),
        (WHOLE + GUARD + "    print(f(int(input())))\n", True),
        (WHOLE + "import unittest\n" + GUARD + "    unittest.main()\n", True),
        ("from __future__ import annotations\n" + WHOLE, True),
        ("def f(x: List[int]):\n    return helper(x) + 1\n", True),  # names of the prompt
        ("def fast(x):\n    return x\n" + WHOLE, True),
        ("def f(x):\n    return x\n", False),
        ("def g(x):\n    return x + 1\n", False),
        ("import os\nos.write(1, b'x')\nos._exit(0)\n", False),
    ],
)
def test_programs_are_scored_as_by_the_official_scorer(code, right):
    assert passes(program(code, ADD), Limits()) == right
