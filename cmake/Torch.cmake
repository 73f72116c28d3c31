# The target `torch_runtime`: headers and libraries of the PyTorch wheel in use.
#
# The wheel's own CMake package asks for the CUDA toolkit when the wheel is a CUDA build, even on a machine that has
# no toolkit, and stops there. We compile no CUDA code, so we link the shared objects that the wheel brings instead.
# RECAST_TORCH_DIR may name the wheel's `torch` folder; otherwise the project's own .venv, then python3, is asked.

if(NOT RECAST_TORCH_DIR)
  foreach(python "${CMAKE_SOURCE_DIR}/.venv/bin/python" python3)
    execute_process(
      COMMAND ${python} -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
      OUTPUT_VARIABLE RECAST_TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed)
      break()
    endif()
    set(RECAST_TORCH_DIR "")
  endforeach()
endif()
if(NOT EXISTS "${RECAST_TORCH_DIR}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "PyTorch not found (looked in '${RECAST_TORCH_DIR}'). Run tools/setup.sh, which installs it into "
    ".venv, or pass -DRECAST_TORCH_DIR=/path/to/site-packages/torch.")
endif()
if(TARGET torch_runtime)
  return()
endif()
set(RECAST_TORCH_DIR "${RECAST_TORCH_DIR}" CACHE PATH "the torch folder of the PyTorch wheel" FORCE)
message(STATUS "PyTorch: ${RECAST_TORCH_DIR}")

add_library(torch_runtime INTERFACE)
target_include_directories(torch_runtime SYSTEM INTERFACE
  "${RECAST_TORCH_DIR}/include" "${RECAST_TORCH_DIR}/include/torch/csrc/api/include")
target_link_libraries(torch_runtime INTERFACE
  "${RECAST_TORCH_DIR}/lib/libtorch_cpu.so" "${RECAST_TORCH_DIR}/lib/libc10.so")
if(EXISTS "${RECAST_TORCH_DIR}/lib/libtorch_cuda.so")
  # No symbol of ours refers to them, yet loading them is what registers the CUDA operators. Their own needs
  # (libcudart and others, from sibling wheels) are found by their RUNPATH at run time.
  target_link_options(torch_runtime INTERFACE -Wl,--allow-shlib-undefined)
  target_link_libraries(torch_runtime INTERFACE -Wl,--push-state,--no-as-needed
    "${RECAST_TORCH_DIR}/lib/libtorch_cuda.so" "${RECAST_TORCH_DIR}/lib/libc10_cuda.so" -Wl,--pop-state)
endif()
