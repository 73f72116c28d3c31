"""A function for each plug-in of the library, made from its registry: `recast.plugs.lora(rank=8)`.

Names have `_` where the library has `-` (`linear_probe`). Each function takes the plug-in's options as keywords, and
`alias`, the name that it goes by where a recipe has it twice. What it returns is a `Plug`, which is text that `recast
learn --plug` would take: str(recast.plugs.lora(rank=8)) == "lora:rank=8". Values are checked at once
(InvalidArgumentError).
"""

import inspect
import keyword
from dataclasses import dataclass
from typing import Any

from . import _core


@dataclass(frozen=True)
class Plug:
    """A plug-in with its options, checked. `text`: "NAME:key=value,...". """

    text: str

    def __str__(self) -> str:
        return self.text


def plug_texts(plugs: Any) -> list[str]:
    """One plug-in or several, each a Plug or text, as checked text."""
    several = [plugs] if isinstance(plugs, (str, Plug)) else list(plugs)
    return [_core.check_plug(str(plug)) for plug in several]


def option_text(value: Any) -> str:
    """A value as the command line would have it."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if "," in text:  # which would begin another option
        _core.raise_error("invalid_argument", f"[plug] a value cannot hold a comma, got {text!r}")
    return text


_TYPES = {"integer": int, "number": float, "flag": bool, "text": str}


def option_value(option: dict[str, Any]) -> Any:
    """The default of an option as a Python value."""
    text, kind = option["default"], _TYPES[option["type"]]
    return text in ("true", "1", "yes", "on") if kind is bool else kind(text)


def python_name(name: str) -> str:
    """A name of the registry as a Python identifier."""
    name = name.replace("-", "_")
    return name + "_" if keyword.iskeyword(name) else name


def option_types(option: dict[str, Any]) -> str:
    """The type of an option's values in annotations."""
    if option["choices"]:
        return "Literal[" + ", ".join(repr(choice) for choice in option["choices"]) + "]"
    return _TYPES[option["type"]].__name__


def documentation(method: dict[str, Any]) -> str:
    """Docstring of a plug-in's function."""
    lines = [method["summary"][:1].upper() + method["summary"][1:] + "."]
    lines += ["", f"Paper: {method['paper']}. Roles: {', '.join(method['roles']) or 'none'}."]
    if method["claims"]:
        lines += [f"Claims: {', '.join(method['claims'])}."]
    if method["needs"]:
        lines += [f"Needs: {', '.join(method['needs'])}."]
    if method["families"]:
        lines += ["Numbers: " + ", ".join(family["name"] for family in method["families"]) + "."]
    if method["options"]:
        lines += ["", "Args:"]
        for option in method["options"]:
            span = f" in {option['range']}" if option["range"] else ""
            lines += [f"    {python_name(option['name'])}: {option['type']}{span}, default {option['default']}: "
                      f"{option['help']}"]
    return "\n".join(lines)


def _make(method: dict[str, Any]) -> Any:
    names = {python_name(option["name"]): option["name"] for option in method["options"]}

    def plug(*, alias: str = "", **options: Any) -> Plug:
        pairs = [f"{names.get(key, key)}={option_text(value)}" for key, value in options.items()]
        pairs += [f"as={option_text(alias)}"] if alias else []
        return Plug(_core.check_plug(":".join(filter(None, [method["name"], ",".join(pairs)]))))

    keywords = [
        inspect.Parameter(python_name(option["name"]), inspect.Parameter.KEYWORD_ONLY, default=option_value(option),
                          annotation=_TYPES[option["type"]]) for option in method["options"]]
    keywords += [inspect.Parameter("alias", inspect.Parameter.KEYWORD_ONLY, default="", annotation=str)]
    plug.__name__ = plug.__qualname__ = python_name(method["name"])
    plug.__doc__ = documentation(method)
    plug.__signature__ = inspect.Signature(keywords, return_annotation=Plug)  # type: ignore[attr-defined]
    return plug


_METHODS = _core.describe_methods("")["methods"]
globals().update({python_name(method["name"]): _make(method) for method in _METHODS})
__all__ = ["Plug"] + [python_name(method["name"]) for method in _METHODS]
