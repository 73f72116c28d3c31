"""The exceptions, made from the library's table of codes (docs/errors.md).

`Error` is the base; each code has a subclass that is also Python's nearest built-in exception, so that
`except FileExistsError` works as well as `except recast.AlreadyExistsError`. `error.code` is the code's name.
"""

import builtins

from . import _core


class Error(Exception):
    """Everything that ends a call of recast. The text is one line: what was wrong, what was expected, what to do."""

    code = "internal"


def _make(row):
    name = "".join(word.title() for word in row["code"].split("_")) + "Error"
    bases = (Error, getattr(builtins, row["exception"]))
    return type(name, bases, {"__doc__": row["meaning"], "__module__": __name__, "code": row["code"]})


_BY_CODE = {row["code"]: _make(row) for row in _core.error_table()}
globals().update({made.__name__: made for made in _BY_CODE.values()})


def error_of(code, message):
    """The exception of a code; the library raises what this returns."""
    return _BY_CODE.get(code, Error)(message)
