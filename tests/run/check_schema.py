"""Does a JSON document follow a schema of docs/? check_schema.py SCHEMA DOCUMENT: prints what does not, exits 1."""

import json
import sys

from jsonschema import Draft202012Validator

schema, document = (json.load(open(path)) for path in sys.argv[1:3])
Draft202012Validator.check_schema(schema)
branches = {branch.get("properties", {}).get("schema", {}).get("const"): name for name, branch in schema["$defs"].items()}
branch = branches.get(document.get("schema", ""))
if branch is None:
    sys.exit(f"no known schema: {document.get('schema')}")
# Against the branch it names, so that the message tells which key is wrong.
validator = Draft202012Validator({"$ref": f"#/$defs/{branch}", "$defs": schema["$defs"]})
errors = [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in validator.iter_errors(document)]
assert Draft202012Validator(schema).is_valid(document) == (not errors)
sys.exit("\n".join(errors) or 0)
