"""protocol_of_client.py MODULE FILE: writes the protocol that a client's generated module was made from, as a
FileDescriptorProto. The module's file is run by itself: its package may want more than is installed."""
import importlib
import importlib.util
import pathlib
import sys

from google.protobuf import descriptor_pb2

name, file = sys.argv[1:]
package, rest = name.split(".", 1)
folder = importlib.util.find_spec(package).submodule_search_locations[0]
path = pathlib.Path(folder, *rest.split(".")).with_suffix(".py")
sys.path.insert(0, str(path.parent))
if package == "tritonclient":  # it refers to its neighbour as a part of the package
    module = importlib.import_module(name)
else:
    spec = importlib.util.spec_from_file_location("client_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
descriptor = descriptor_pb2.FileDescriptorProto()
module.DESCRIPTOR.CopyToProto(descriptor)
pathlib.Path(file).write_bytes(descriptor.SerializeToString())
print("passed")
