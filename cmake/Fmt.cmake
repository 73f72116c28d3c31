# recast_link_fmt(FOLDER): makes FOLDER/fmt a link to the headers of fmt::fmt.
#
# The wheel's include folder brings an fmt of its own, without its library, that would come before the system's: a link
# in a folder that is searched first keeps the two apart. (Header-only fmt costs 2 s per file.)
function(recast_link_fmt folder)
  get_target_property(include fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
  list(GET include 0 include)
  file(MAKE_DIRECTORY "${folder}")
  file(CREATE_LINK "${include}/fmt" "${folder}/fmt" SYMBOLIC)
endfunction()
