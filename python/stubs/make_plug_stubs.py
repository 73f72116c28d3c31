#!/usr/bin/env python3
"""Prints the type stub of recast.plugs: the signature of every plug-in that this build of recast has.

The wheel's build writes it beside the module, so that editors know the options; nobody keeps it up by hand.
Usage: make_plug_stubs.py > recast/plugs.pyi, with the package importable.
"""

from recast import methods
from recast.plugs import documentation, option_types, option_value, python_name

HEADER = '''from dataclasses import dataclass
from typing import Any, Literal

@dataclass(frozen=True)
class Plug:
    text: str
    def __str__(self) -> str: ...

def plug_texts(plugs: Any) -> list[str]: ...
def option_text(value: Any) -> str: ...
def option_value(option: dict[str, Any]) -> Any: ...
def python_name(name: str) -> str: ...
def option_types(option: dict[str, Any]) -> str: ...
def documentation(method: dict[str, Any]) -> str: ...
'''


def stub(method):
    keywords = [f"{python_name(option['name'])}: {option_types(option)} = {option_value(option)!r}"
                for option in method["options"]] + ["alias: str = ''"]
    text = documentation(method).replace("\\", "\\\\").replace('"""', "'''").replace("\n", "\n    ")
    return f'def {python_name(method["name"])}(*, {", ".join(keywords)}) -> Plug:\n    """{text}\n    """\n'


print(HEADER + "\n" + "\n".join(stub(method) for method in methods()), end="")
