# recast_readers: what the targets call, all of it free of torch. The tests compile the same list without torch, so that a
# file that gains an ATen header, or calls one that is missing here, fails there too.
get_filename_component(source "${CMAKE_CURRENT_LIST_DIR}/../src" ABSOLUTE)
file(GLOB recast_readers CONFIGURE_DEPENDS "${source}/format/*.cc")
list(FILTER recast_readers EXCLUDE REGEX "/(onnx_graph|tensor_file)\\.cc$")
foreach(file
    base/error.cc base/log.cc base/lower_case.cc base/random_hex.cc base/utc.cc
    data/cifar.cc data/csv.cc data/idx.cc data/jpeg.cc data/listing.cc data/orientation.cc
    data/packed.cc data/picture.cc data/png.cc data/preprocessing.cc data/source.cc data/webp.cc
    method/scalars.cc model/config.cc run/peft_config.cc run/settings.cc run/settings_tree.cc run/yaml_text.cc
    serve/base64.cc serve/file_watch.cc serve/grpc_messages.cc serve/http_content.cc serve/http_parser.cc
    serve/http_query.cc serve/http_route.cc serve/infer_body.cc serve/inference.cc serve/model_name.cc serve/percent.cc
    serve/request_marks.cc serve/tensor_data.cc serve/token_file.cc serve/token_rules.cc serve/token_table.cc
    serve/wire_cost.cc serve/write_infer_body.cc store/plugs_json.cc store/task_header.cc)
  list(APPEND recast_readers "${source}/${file}")
endforeach()
