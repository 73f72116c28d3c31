"""Reads manifests of KServe with the classes of its Python client, which know every field: an unknown one, or a value of
another type, is an error. Run by the Python that has the clients.

Usage: check_kserve.py FILE...
A line for each: what is wrong first, or how many documents fit.
"""

import re
import sys

import kserve
import kubernetes.client
import yaml

PLAIN = {"str": str, "int": (int, str), "float": (int, float), "bool": bool, "object": object, "datetime": str}


class Unfit(Exception):
    """What does not fit, and where."""


def class_of(name):
    found = getattr(kserve, name, None) or getattr(kubernetes.client, name, None)
    if found is None:
        raise Unfit(f"kserve and kubernetes have no class {name}")
    return found


def check(value, kind, where):
    """Fails unless the value is of this kind, as the client's openapi_types call it."""
    nested = re.fullmatch(r"([Ll]ist\[|[Dd]ict[(\[]str, )(.+)[\])]", kind)
    if nested and nested[1] in ("list[", "List["):
        if not isinstance(value, list):
            raise Unfit(f"{where}: a list is expected")
        for index, element in enumerate(value):
            check(element, nested[2], f"{where}[{index}]")
    elif nested:
        for key, element in value.items():
            check(element, nested[2], f"{where}.{key}")
    elif kind in PLAIN:
        if not isinstance(value, PLAIN[kind]):
            raise Unfit(f"{where}: {value!r} is no {kind}")
    else:
        check_fields(value, class_of(kind), where)


def check_fields(value, kind, where):
    kinds = {kind.attribute_map[name]: type_name for name, type_name in kind.openapi_types.items()}
    for key, field in value.items():
        if key not in kinds:
            raise Unfit(f"{where}: there is no field {key}; there are {', '.join(sorted(kinds))}")
        check(field, kinds[key], f"{where}.{key}")


def verdict(path):
    with open(path, encoding="utf-8") as file:
        documents = list(yaml.safe_load_all(file))
    for document in documents:
        version = document["apiVersion"].removeprefix("serving.kserve.io/")
        name = version[0].upper() + version[1:] + document["kind"]
        try:
            check_fields(document, class_of(name), document["kind"])
        except Unfit as error:
            return str(error)
    return f"{len(documents)} documents fit"


def main():
    for path in sys.argv[1:]:
        print(f"{path}: {verdict(path)}")


if __name__ == "__main__":
    main()
