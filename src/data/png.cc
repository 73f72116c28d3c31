// PNG through libpng. Its errors leave by longjmp, so every function that calls setjmp holds plain data only.
#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "codec.h"
#include "recast/base/error.h"

namespace recast {
namespace {

constexpr std::size_t kMaxChunkBytes = 8'000'000;

struct Fault {
  char text[160] = "";
  bool out_of_memory = false;
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  auto& fault = *static_cast<Fault*>(png_get_error_ptr(png));
  std::snprintf(fault.text, sizeof fault.text, "%s", message);
  png_longjmp(png, 1);
}

// libpng warns about chunks beside the pixels (profiles, checksums of comments); damage to the pixels is an error
// there.
void on_warning(png_structp, png_const_charp) {}

// libpng's own words for a chunk beyond its limit are those for want of memory, so that is noted here.
png_voidp allocate(png_structp png, png_alloc_size_t size) {
  void* memory = std::malloc(size);
  if (!memory) static_cast<Fault*>(png_get_mem_ptr(png))->out_of_memory = true;
  return memory;
}

void release(png_structp, png_voidp memory) { std::free(memory); }

struct PngReader {
  std::string_view bytes;
  std::size_t at = 0;
  Fault fault;
  png_structp png = nullptr;
  png_infop info = nullptr;

  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }
};

void take(png_structp png, png_bytep out, std::size_t count) {
  auto& reader = *static_cast<PngReader*>(png_get_io_ptr(png));
  if (count > reader.bytes.size() - reader.at) png_error(png, "the file ends too early");
  std::memcpy(out, reader.bytes.data() + reader.at, count);
  reader.at += count;
}

// Afterwards every pixel has four bytes, R G B A.
bool read_header(PngReader& reader) {
  reader.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &reader.fault, on_error, on_warning, &reader.fault,
                                        allocate, release);
  if (!reader.png) return false;
  reader.info = png_create_info_struct(reader.png);
  if (!reader.info) return false;
  if (setjmp(png_jmpbuf(reader.png))) return false;
  png_structp png = reader.png;
  png_set_read_fn(png, &reader, take);
  png_set_chunk_malloc_max(png, kMaxChunkBytes);
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);  // only what makes up the pixels
  png_read_info(png, reader.info);
  png_set_expand(png);
  png_set_strip_16(png);
  png_set_gray_to_rgb(png);
  png_set_add_alpha(png, 255, PNG_FILLER_AFTER);
  png_set_interlace_handling(png);
  png_read_update_info(png, reader.info);
  return true;
}

bool read_pixels(PngReader& reader, png_bytepp rows) {
  if (setjmp(png_jmpbuf(reader.png))) return false;
  png_read_image(reader.png, rows);
  png_read_end(reader.png, nullptr);
  return true;
}

[[noreturn]] void fail_png(const PngReader& reader, std::string_view origin) {
  if (!reader.info || reader.fault.out_of_memory)
    fail(Code::kUnavailable, "[data] {}: not enough memory to decode the PNG", origin);
  fail(Code::kDataCorruption, "[data] {}: damaged or truncated PNG ({}); replace or remove it", origin,
       reader.fault.text);
}

struct Writer {
  std::string* out = nullptr;
  Fault fault;
  png_structp png = nullptr;
  png_infop info = nullptr;

  ~Writer() { png_destroy_write_struct(&png, &info); }
};

void give(png_structp png, png_bytep data, std::size_t count) {
  static_cast<std::string*>(png_get_io_ptr(png))->append(reinterpret_cast<const char*>(data), count);
}

bool write(Writer& writer, const std::uint8_t* pixels, std::uint32_t width, std::uint32_t height) {
  writer.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &writer.fault, on_error, on_warning);
  if (!writer.png) return false;
  writer.info = png_create_info_struct(writer.png);
  if (!writer.info) return false;
  if (setjmp(png_jmpbuf(writer.png))) return false;
  png_set_write_fn(writer.png, writer.out, give, [](png_structp) {});
  png_set_IHDR(writer.png, writer.info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(writer.png, writer.info);
  for (std::uint32_t y = 0; y < height; ++y) png_write_row(writer.png, pixels + std::size_t{3} * width * y);
  png_write_end(writer.png, nullptr);
  return true;
}

}  // namespace

Picture decode_png(std::string_view bytes, std::string_view origin) {
  PngReader reader;
  reader.bytes = bytes;
  if (!read_header(reader)) fail_png(reader, origin);
  const std::size_t width = png_get_image_width(reader.png, reader.info);
  const std::size_t height = png_get_image_height(reader.png, reader.info);
  check_image_size(width, height, origin);
  RECAST_ASSERT(png_get_rowbytes(reader.png, reader.info) == width * 4);
  std::vector<unsigned char> rgba(width * height * 4);
  std::vector<png_bytep> rows(height);
  for (std::size_t y = 0; y < height; ++y) rows[y] = &rgba[y * width * 4];
  if (!read_pixels(reader, rows.data())) fail_png(reader, origin);
  Picture picture = Picture::of_size(static_cast<std::int64_t>(height), static_cast<std::int64_t>(width));
  composite_on_white(rgba.data(), picture);
  return picture;
}

std::string encode_png_rows(const std::uint8_t* rgb, std::uint32_t height, std::uint32_t width) {
  std::string out;
  Writer writer;
  writer.out = &out;
  if (!write(writer, rgb, width, height)) fail(Code::kInternal, "[data] writing a PNG failed: {}", writer.fault.text);
  return out;
}

}  // namespace recast
