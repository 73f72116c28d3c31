# cmake -DFOLDER=src/serve/page -DOUT=page_files.cc -P EmbedPage.cmake
# Writes the page's files as constants, so that the library needs no files beside it.
set(text "#include \"serve/page_files.h\"\n\nnamespace recast {\n")
foreach(pair kPageHtml=index.html kPageStyle=page.css kPageScript=page.js)
  string(REPLACE "=" ";" pair ${pair})
  list(GET pair 0 name)
  list(GET pair 1 file)
  file(READ "${FOLDER}/${file}" bytes HEX)
  string(REGEX REPLACE "(..)" "'\\\\x\\1'," bytes "${bytes}")
  string(APPEND text "static constexpr char ${name}Bytes[] = {${bytes}};\n"
    "const std::string_view ${name}{${name}Bytes, sizeof ${name}Bytes};\n")
endforeach()
file(WRITE "${OUT}" "${text}}  // namespace recast\n")
