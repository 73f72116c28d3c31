"""triton_clients.py KIND FILE: Triton's own clients, unchanged, against a server that must answer as FILE says (see
expected.py). KIND: http, http_aio, grpc, grpc_aio, grpc_stream, grpc_aio_stream."""
import asyncio
import importlib
import inspect
import queue
import sys

import numpy
from expected import Expected, texts
from tritonclient.utils import InferenceServerException

kind, file = sys.argv[1:]
transport = kind.split("_")[0]
expected = Expected(file)
module = importlib.import_module(f"tritonclient.{transport}{'.aio' if 'aio' in kind else ''}")
AS_DICT = {"as_json": True} if transport == "grpc" else {}
NOT_FOUND = {"http": "404", "grpc": "StatusCode.NOT_FOUND"}[transport]
INVALID = {"http": "400", "grpc": "StatusCode.INVALID_ARGUMENT"}[transport]


def tensor(name, values, **options):
    made = module.InferInput(name, list(values.shape), "BYTES" if values.dtype == object else "FP32")
    made.set_data_from_numpy(values, **options)
    return made


def image(source="images", **options):
    return tensor("image", expected.rows[source], **options)


def tasks(names, **options):
    return tensor("task", numpy.array(names, dtype=object), **options)


async def value(answer):
    """What a call gives, from clients of both kinds."""
    return await answer if inspect.isawaitable(answer) else answer


async def refusal(call):
    try:
        await value(call())
    except InferenceServerException as error:
        return error.status(), error.message()
    raise AssertionError("nothing was refused")


async def described(server):
    assert await value(server.is_server_live()) and await value(server.is_server_ready())
    metadata = await value(server.get_server_metadata(**AS_DICT))
    assert metadata["name"] == "recast" and "binary_tensor_data" in metadata["extensions"], metadata
    for name, model in expected.models.items():
        assert await value(server.is_model_ready(name))
        metadata = await value(server.get_model_metadata(name, **AS_DICT))
        shapes = {output["name"]: [int(size) for size in output["shape"]] for output in metadata["outputs"]}
        assert metadata["name"] == name and metadata["versions"] == [model["version"]], metadata
        assert shapes["logits"] == [-1, len(model["labels"])], metadata
    assert await value(server.is_model_ready("recast")) and await value(server.is_model_ready("cars", "1"))
    metadata = await value(server.get_model_metadata("cars", "1", **AS_DICT))
    assert metadata["versions"] == ["1"], metadata
    assert await index(server) == {name: "READY" for name in expected.index}


async def index(server):
    answer = await value(server.get_model_repository_index(**AS_DICT))
    return {model["name"]: model["state"] for model in (answer["models"] if AS_DICT else answer)}


async def counted(server, model):
    stats = (await value(server.get_inference_statistics(model, **AS_DICT))).get("model_stats", [])
    return sum(int(entry["inference_count"]) for entry in stats)


async def managed(server):
    before = await counted(server, "birds")
    expected.check((await value(server.infer("birds", [image()]))).as_numpy, "birds")
    assert await counted(server, "birds") == before + len(expected.rows["images"])
    await value(server.unload_model("birds"))
    assert [state for name, state in (await index(server)).items() if name.endswith("birds")] == ["UNAVAILABLE"]
    status, _ = await refusal(lambda: server.infer("birds", [image()]))
    assert status == NOT_FOUND, status
    await value(server.load_model("birds"))
    expected.check((await value(server.infer("birds", [image()]))).as_numpy, "birds")
    status, _ = await refusal(lambda: server.load_model("birds", config="{}"))
    assert status == INVALID, status
    status, message = await refusal(lambda: server.load_model("brids"))
    assert status == NOT_FOUND and "did you mean 'birds'" in message, (status, message)


async def inferred(server):
    for name in expected.models:
        for source in expected.sources(name):
            answer = await value(server.infer(name, [image(source)], request_id="r-7"))
            expected.check(answer.as_numpy, name, source)
            said = answer.get_response(**AS_DICT)
            assert said["id"] == "r-7" and said["model_version"] == expected.models[name]["version"], said
    answer = await value(server.infer("cars", [image()], model_version="1"))
    expected.check(answer.as_numpy, "cars:1")
    answer = await value(server.infer("recast", [image(), tasks(expected.mixed)]))
    expected.check(answer.as_numpy, expected.mixed)
    answer = await value(server.infer("recast", [image()], parameters={"task": "leaves"}))
    expected.check(answer.as_numpy, "leaves")
    answer = await value(server.infer("flowers", [image()], outputs=[module.InferRequestedOutput("features")]))
    expected.check(answer.as_numpy, "flowers", outputs=["features"])
    assert answer.as_numpy("logits") is None


async def ranked(server):
    outputs = [module.InferRequestedOutput(name, class_count=2) for name in ("probabilities", "logits")]
    answer = await value(server.infer("cars", [image()], outputs=outputs))
    for name in ("probabilities", "logits"):
        assert texts(answer.as_numpy(name)).tolist() == expected.classified("cars", 2, name), answer.as_numpy(name)
    answer = await value(server.infer("cars", [image()], parameters={"top_k": 3}))
    best, labels = expected.best("cars", 3), expected.models["cars"]["labels"]
    assert texts(answer.as_numpy("top_label")).tolist() == [[labels[c] for c in row] for row in best]
    probabilities = numpy.take_along_axis(expected.values("probabilities", "cars"), best, axis=1)
    assert (answer.as_numpy("top_probability") == probabilities).all()


async def refused(server):
    status, message = await refusal(lambda: server.infer("flowrs", [image()]))
    assert status == NOT_FOUND and "did you mean 'flowers'" in message, (status, message)
    names = ["flowers"] * (len(expected.rows["images"]) - 1) + ["flowrs"]
    status, message = await refusal(lambda: server.infer("recast", [image(), tasks(names)]))
    assert status == NOT_FOUND and f"row {len(names) - 1}" in message, (status, message)
    broken = expected.rows["images"].copy()
    broken[1] = broken[1][:40]
    status, message = await refusal(lambda: server.infer("flowers", [tensor("image", broken)]))
    assert status == INVALID and "row 1" in message, (status, message)
    status, message = await refusal(lambda: server.infer("flowers", [tensor("picture", expected.rows["images"])]))
    assert status == INVALID and "no input 'picture'" in message, (status, message)
    status, _ = await refusal(lambda: server.get_model_config("flowers"))
    assert status == {"http": "404", "grpc": "StatusCode.UNIMPLEMENTED"}[transport], status


async def over_http(server):
    """What only the clients for HTTP can say: what stands in the JSON, and compression."""
    outputs = [module.InferRequestedOutput(name, binary_data=False) for name in ("logits", "probabilities", "label")]
    asked = [output.name() for output in outputs]
    for inputs in ([image()], [image("pixels", binary_data=False)]):
        source = "images" if inputs[0].datatype() == "BYTES" else "pixels"
        answer = await value(server.infer("cars", inputs, outputs=outputs))
        expected.check(answer.as_numpy, "cars", source, asked)
        assert all("data" in answer.get_output(name) for name in asked), answer.get_response()
    mixed = [image(), tasks(expected.mixed, binary_data=False)]
    answer = await value(server.infer("recast", mixed, outputs=outputs[:1] + [module.InferRequestedOutput("label")]))
    expected.check(answer.as_numpy, expected.mixed, outputs=["logits", "label"])
    answer = await value(server.infer("cars", [image()], response_compression_algorithm="gzip"))
    expected.check(answer.as_numpy, "cars")
    status, _ = await refusal(lambda: server.infer("cars", [image()], request_compression_algorithm="gzip"))
    assert status == "415", status


async def over_grpc(server):
    status, _ = await refusal(lambda: server.infer("cars", [image()], compression_algorithm="gzip"))
    assert status == "StatusCode.UNIMPLEMENTED", status


async def at_once(server, count=50):
    names = [sorted(expected.models)[i % len(expected.models)] for i in range(count)]
    if kind.endswith("aio"):
        answers = await asyncio.gather(*(server.infer(name, [image()]) for name in names))
    elif kind == "http":
        answers = [pending.get_result() for pending in [server.async_infer(name, [image()]) for name in names]]
    else:
        came = [queue.Queue() for _ in names]
        for name, box in zip(names, came):
            server.async_infer(name, [image()], lambda result, error, box=box: box.put(error or result))
        answers = [box.get(timeout=60) for box in came]
    for name, answer in zip(names, answers):
        expected.check(answer.as_numpy, name)


def streamed_names():
    """The fifth request is refused, and the stream goes on."""
    names = [sorted(expected.models)[i % len(expected.models)] for i in range(10)]
    names[4] = "flowrs"
    return names


def check_streamed(i, name, result, error):
    if name == "flowrs":
        assert "did you mean 'flowers'" in error.message(), error
        return
    assert error is None and result.get_response().id == str(i), (i, error)
    expected.check(result.as_numpy, name)


def stream(server):
    answers = queue.Queue()
    server.start_stream(lambda result, error: answers.put((result, error)))
    for i, name in enumerate(streamed_names()):
        server.async_stream_infer(name, [image()], request_id=str(i))
    for i, name in enumerate(streamed_names()):
        check_streamed(i, name, *answers.get(timeout=60))
    server.stop_stream()


async def aio_stream(server):
    async def requests():
        for i, name in enumerate(streamed_names()):
            yield {"model_name": name, "inputs": [image()], "request_id": str(i)}

    names = iter(enumerate(streamed_names()))
    async for result, error in server.stream_infer(requests()):
        check_streamed(*next(names), result, error)
    assert next(names, None) is None


async def main():
    parallel = {"concurrency": 8} if kind == "http" else {}
    server = module.InferenceServerClient(getattr(expected, transport), **parallel)
    try:
        if kind == "grpc_stream":
            stream(server)
        elif kind == "grpc_aio_stream":
            await aio_stream(server)
        else:
            alone = {"http": over_http, "grpc": over_grpc}[transport]
            for part in (described, managed, inferred, ranked, refused, at_once, alone):
                await part(server)
    finally:
        await value(server.close())


asyncio.run(main())
print("passed")
