"""What a server must answer, as clients_test.cc wrote it, and the comparison of an answer with it.

FILE: {"http": ADDRESS, "grpc": ADDRESS, "index": [NAME], "sources": {"images": [FILE], "large": [FILE],
       "pixels": {"file": FILE, "shape": [N, 3, H, W]}},
       "models": {NAME: {"version": TEXT, "labels": [TEXT], SOURCE: {OUTPUT: one value or list a row}}}}"""
import json
import pathlib

import numpy

DTYPES = {"logits": numpy.float32, "probabilities": numpy.float32, "features": numpy.float32,
          "num_classes": numpy.int64, "label": object}
PADDING = {"logits": numpy.float32(-3.4028234663852886e38), "probabilities": numpy.float32(0)}
UNASKED = ("logits", "probabilities", "num_classes", "label")


class Expected:
    def __init__(self, file):
        content = json.loads(pathlib.Path(file).read_text())
        self.http, self.grpc, self.index = content["http"], content["grpc"], content["index"]
        self.models = content["models"]
        pixels = content["sources"].pop("pixels")
        self.rows = {"pixels": numpy.fromfile(pixels["file"], dtype=numpy.float32).reshape(pixels["shape"])}
        for source, files in content["sources"].items():
            self.rows[source] = numpy.array([pathlib.Path(file).read_bytes() for file in files], dtype=object)
        # Every row of another model, by and by of each.
        self.mixed = [sorted(self.models)[i % len(self.models)] for i in range(len(self.rows["images"]))]

    def sources(self, model):
        """What the model was asked with: "large" is for one."""
        return [source for source in self.rows if source in self.models[model]]

    def values(self, output, model, source="images"):
        """Of one model, or of one a row."""
        count = len(self.rows[source])
        models = [model] * count if isinstance(model, str) else model
        widest = max(len(self.models[name]["labels"]) for name in models)
        rows = [self.models[name][source][output][i] for i, name in enumerate(models)]
        if output in PADDING:
            rows = [row + [PADDING[output]] * (widest - len(row)) for row in rows]
        return numpy.array(rows, dtype=DTYPES[output])

    def check(self, get, model, source="images", outputs=UNASKED):
        """get(NAME): an output of the answer. Equal to the bit: grouped rows do not depend on each other."""
        for output in outputs:
            got, wanted = get(output), self.values(output, model, source)
            assert got is not None, f"no output {output}"
            if got.dtype == object:
                got = texts(got)
            assert got.dtype == wanted.dtype and got.shape == wanted.shape, (output, got.dtype, got.shape, wanted.shape)
            assert (got == wanted).all(), (output, model, source, got, wanted)

    def best(self, model, count, output="probabilities", source="images"):
        """[N, count] numbers of classes, the likeliest first."""
        return numpy.argsort(-self.values(output, model, source), axis=1, kind="stable")[:, :count]

    def classified(self, model, count, output="probabilities", source="images"):
        """As the classification extension writes them."""
        values, labels = self.values(output, model, source), self.models[model]["labels"]
        return [[f"{values[row, c]:f}:{c}:{labels[c]}" for c in best]
                for row, best in enumerate(self.best(model, count, output, source))]


def texts(values):
    """An array of bytes or texts as texts."""
    plain = [value.decode() if isinstance(value, bytes) else str(value) for value in values.ravel()]
    return numpy.array(plain, dtype=object).reshape(values.shape)
