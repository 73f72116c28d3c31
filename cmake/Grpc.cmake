# Protocol Buffers and gRPC of the system, and the code that is generated for them.
find_program(RECAST_PROTOC protoc REQUIRED)
find_program(RECAST_PROTOC_GRPC grpc_cpp_plugin)

# recast_link_protobuf(FOLDER): makes FOLDER/google a link to the system's headers.
#
# The wheel's include folder brings those of an older protobuf, without its library (libtorch has it inside, hidden), that
# would come before the system's: as with fmt, a link in a folder that is searched first keeps the two apart.
function(recast_link_protobuf folder)
  find_path(RECAST_PROTOBUF_INCLUDE google/protobuf/message.h NO_CMAKE_PATH REQUIRED)
  file(MAKE_DIRECTORY "${folder}")
  file(CREATE_LINK "${RECAST_PROTOBUF_INCLUDE}/google" "${folder}/google" SYMBOLIC)
endfunction()

# recast_generate(VARIABLE KIND PROTO...): sets VARIABLE to the files that protoc makes of src/PROTO.proto in
# ${CMAKE_BINARY_DIR}/protocol, which is to be searched for headers: of KIND `pb` the messages, of KIND `grpc.pb` a client
# of the services.
function(recast_generate variable kind)
  get_filename_component(root "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/.." ABSOLUTE)
  set(out "${CMAKE_BINARY_DIR}/protocol")
  file(MAKE_DIRECTORY "${out}")
  set(how "--cpp_out=${out}")
  if(kind STREQUAL "grpc.pb")
    set(how "--grpc_out=${out}" "--plugin=protoc-gen-grpc=${RECAST_PROTOC_GRPC}")
  endif()
  set(made "")
  foreach(proto ${ARGN})
    set(files "${out}/${proto}.${kind}.cc" "${out}/${proto}.${kind}.h")
    add_custom_command(OUTPUT ${files}
      COMMAND "${RECAST_PROTOC}" -I "${root}/src" ${how} "${root}/src/${proto}.proto"
      DEPENDS "${root}/src/${proto}.proto" COMMENT "Generating ${proto}.${kind}.cc" VERBATIM)
    list(APPEND made ${files})
  endforeach()
  # Neither the warnings of generated code nor a precompiled header of ours are any use there.
  set_source_files_properties(${made} PROPERTIES COMPILE_OPTIONS -w SKIP_PRECOMPILE_HEADERS ON)
  set(${variable} ${made} PARENT_SCOPE)
endfunction()

# recast_use_protocol(TARGET): the messages of the protocol, for TARGET alone. Needs no gRPC.
function(recast_use_protocol target)
  recast_link_protobuf("${CMAKE_BINARY_DIR}/include")
  if(NOT TARGET recast_protocol)
    recast_generate(messages pb serve/inference serve/health)
    add_library(recast_protocol OBJECT ${messages})
    target_link_libraries(recast_protocol PUBLIC recast_plain_flags)
    target_include_directories(recast_protocol PUBLIC "${CMAKE_BINARY_DIR}/protocol")
  endif()
  add_dependencies(${target} recast_protocol)   # its headers
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:recast_protocol>)
  target_include_directories(${target} PRIVATE "${CMAKE_BINARY_DIR}/protocol")
  pkg_check_modules(RECAST_PROTOBUF REQUIRED IMPORTED_TARGET protobuf)   # PROTOBUF is of the package that gRPC looks for
  target_link_libraries(${target} PRIVATE PkgConfig::RECAST_PROTOBUF)
endfunction()

# recast_link_grpc(TARGET): the library. Of those that it asks for, what nothing refers to is left out.
function(recast_link_grpc target)
  target_link_options(${target} PRIVATE -Wl,--as-needed)
  target_link_libraries(${target} PRIVATE gRPC::grpc++)
endfunction()

# recast_use_grpc(TARGET): the messages and the gRPC library, for TARGET alone.
function(recast_use_grpc target)
  recast_use_protocol(${target})
  recast_link_grpc(${target})
endfunction()

# recast_use_grpc_client(TARGET): a client of the protocol's services, for tests; after recast_use_grpc(), and TARGET links
# what that was called for.
function(recast_use_grpc_client target)
  recast_generate(client grpc.pb serve/inference)
  target_sources(${target} PRIVATE ${client})
  add_dependencies(${target} recast_protocol)
  target_include_directories(${target} PRIVATE "${CMAKE_BINARY_DIR}/protocol")
  recast_link_grpc(${target})
endfunction()
