# What `cmake --install` puts where: docs/install.md.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# Moved together, programs and library still find each other; PyTorch is looked for where it was built against.
set_target_properties(recast recast_serve PROPERTIES INSTALL_RPATH "$ORIGIN;${RECAST_TORCH_DIR}/lib")
set_target_properties(recast_cli PROPERTIES
  INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR};${RECAST_TORCH_DIR}/lib")
install(TARGETS recast recast_serve LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(TARGETS recast_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(DIRECTORY include/recast DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h")

set(package "${CMAKE_INSTALL_LIBDIR}/cmake/recast")
configure_package_config_file(cmake/recastConfig.cmake.in "${CMAKE_BINARY_DIR}/recastConfig.cmake"
  INSTALL_DESTINATION "${package}" PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file("${CMAKE_BINARY_DIR}/recastConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/recastConfig.cmake" "${CMAKE_BINARY_DIR}/recastConfigVersion.cmake"
  cmake/Torch.cmake cmake/Fmt.cmake DESTINATION "${package}")

# The program knows its own commands and flags: manual page and completion are what it prints.
install(CODE "
  foreach(page man \"completion bash\" \"completion zsh\" \"completion fish\")
    string(REPLACE \" \" \";\" words \"\${page}\")
    string(REPLACE \" \" \"-\" file \"\${page}\")
    execute_process(COMMAND \"$<TARGET_FILE:recast_cli>\" \${words} OUTPUT_FILE \"${CMAKE_BINARY_DIR}/pages/\${file}\"
      COMMAND_ERROR_IS_FATAL ANY)
  endforeach()")
file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/pages")
install(FILES "${CMAKE_BINARY_DIR}/pages/man" DESTINATION "${CMAKE_INSTALL_MANDIR}/man1" RENAME recast.1)
install(FILES "${CMAKE_BINARY_DIR}/pages/completion-bash" RENAME recast
  DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions")
install(FILES "${CMAKE_BINARY_DIR}/pages/completion-zsh" RENAME _recast
  DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/site-functions")
install(FILES "${CMAKE_BINARY_DIR}/pages/completion-fish" RENAME recast.fish
  DESTINATION "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d")

install(FILES README.md LICENSE NOTICE DESTINATION "${CMAKE_INSTALL_DOCDIR}")
install(DIRECTORY docs DESTINATION "${CMAKE_INSTALL_DOCDIR}" FILES_MATCHING PATTERN "*.md" PATTERN "*.json" PATTERN "*.svg")
