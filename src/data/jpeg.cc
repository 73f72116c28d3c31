// JPEG through libjpeg-turbo. Its errors leave by longjmp, so every function that calls setjmp holds plain data only:
// no destructor of ours may lie between a setjmp and the jump back.
// clang-format off
#include <cstdio>  // jpeglib.h needs it
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include <csetjmp>
#include <string>
#include <vector>

#include "codec.h"
#include "recast/base/error.h"

namespace recast {
namespace {

// Real progressive files have about ten scans; a hostile one has thousands, each a walk over the whole image.
constexpr int kMaxScans = 100;
// Pixels walked over in all scans: 40 scans of the largest picture.
constexpr std::uint64_t kMaxScannedPixels = 40 * kMaxImagePixels;
constexpr long kMaxMemoryBytes = 512l << 20;  // planes included

struct JpegReader {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf escape;
  char text[JMSG_LENGTH_MAX] = "";
  bool too_many_scans = false;
};

JpegReader& reader_of(j_common_ptr info) { return *static_cast<JpegReader*>(info->client_data); }

[[noreturn]] void leave(j_common_ptr info) {
  JpegReader& reader = reader_of(info);
  info->err->format_message(info, reader.text);
  std::longjmp(reader.escape, 1);
}

// Whether bytes between the pixels and the end of the image were skipped. In a file of several scans a damaged scan
// would be skipped just so: there every bit of every coefficient must have come.
bool is_surplus_after_pixels(const j_common_ptr info) {
  constexpr int kEndOfImage = 0xd9;
  const auto image = reinterpret_cast<j_decompress_ptr>(info);
  if (info->err->msg_parm.i[1] != kEndOfImage || image->output_width == 0) return false;
  if (!jpeg_has_multiple_scans(image)) return true;
  if (!image->coef_bits) return false;
  for (int component = 0; component < image->num_components; ++component)
    for (const int missing_bits : image->coef_bits[component])
      if (missing_bits != 0) return false;
  return true;
}

// Level -1 is a warning, above are traces. Some warnings say nothing about the pixels; the others mean that libjpeg
// goes on with made-up ones.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  const int code = info->err->msg_code;
  if (code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM || code == JWRN_NOT_SEQUENTIAL) return;
  if (code == JWRN_EXTRANEOUS_DATA && is_surplus_after_pixels(info)) return;
  leave(info);
}

void on_progress(j_common_ptr info) {
  const auto& image = *reinterpret_cast<j_decompress_ptr>(info);
  const std::uint64_t pixels = std::uint64_t{image.image_width} * image.image_height;
  const auto scans = static_cast<std::uint64_t>(image.input_scan_number);
  if (image.input_scan_number <= kMaxScans && scans * pixels <= kMaxScannedPixels) return;
  JpegReader& reader = reader_of(info);
  reader.too_many_scans = true;
  std::longjmp(reader.escape, 1);
}

bool read_header(JpegReader& reader, std::string_view bytes) {
  auto& info = reader.info;
  info.err = jpeg_std_error(&reader.errors);
  reader.errors.error_exit = leave;
  reader.errors.emit_message = on_message;
  reader.errors.output_message = [](j_common_ptr) {};
  reader.progress.progress_monitor = on_progress;
  info.client_data = &reader;
  if (setjmp(reader.escape)) return false;
  jpeg_create_decompress(&info);
  info.progress = &reader.progress;
  jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&info, TRUE);
  const bool four = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = four ? JCS_CMYK : JCS_RGB;
  info.dct_method = JDCT_ISLOW;
  info.do_fancy_upsampling = TRUE;
  return true;
}

unsigned char multiply(unsigned a, unsigned b) {  // round(a b / 255)
  const unsigned t = a * b + 128;
  return static_cast<unsigned char>(((t >> 8) + t) >> 8);
}

void spread_rgb(const unsigned char* line, std::int64_t width, unsigned char* r, unsigned char* g, unsigned char* b) {
  for (std::int64_t x = 0; x < width; ++x, line += 3) r[x] = line[0], g[x] = line[1], b[x] = line[2];
}

// Four-colour files hold 255 - ink (Adobe's convention, which all writers in use follow), so a channel is what its own
// ink and black let through.
void spread_cmyk(const unsigned char* line, std::int64_t width, unsigned char* r, unsigned char* g, unsigned char* b) {
  for (std::int64_t x = 0; x < width; ++x, line += 4) {
    const unsigned light = line[3];
    r[x] = static_cast<unsigned char>(light - multiply(255u - line[0], light));
    g[x] = static_cast<unsigned char>(light - multiply(255u - line[1], light));
    b[x] = static_cast<unsigned char>(light - multiply(255u - line[2], light));
  }
}

bool read_pixels(JpegReader& reader, unsigned char* line, unsigned char* planes) {
  auto& info = reader.info;
  const auto width = static_cast<std::int64_t>(info.image_width), size = width * info.image_height;
  info.mem->max_memory_to_use = kMaxMemoryBytes - 3 * static_cast<long>(size);
  if (setjmp(reader.escape)) return false;
  jpeg_start_decompress(&info);
  while (info.output_scanline < info.output_height) {
    unsigned char* r = planes + info.output_scanline * width;
    jpeg_read_scanlines(&info, &line, 1);
    (info.out_color_space == JCS_CMYK ? spread_cmyk : spread_rgb)(line, width, r, r + size, r + 2 * size);
  }
  jpeg_finish_decompress(&info);
  return true;
}

[[noreturn]] void fail_jpeg(const JpegReader& reader, std::string_view origin) {
  if (reader.too_many_scans) {
    fail(Code::kExhausted, "[data] {}: JPEG with too many scans ({}, at most {} and {} pixels in all); save it again",
         origin, reader.info.input_scan_number, kMaxScans, kMaxScannedPixels);
  }
  switch (reader.errors.msg_code) {
    case JERR_BAD_PRECISION:
    case JERR_SOF_UNSUPPORTED:
    case JERR_ARITH_NOTIMPL:
    case JERR_CONVERSION_NOTIMPL:
      fail(Code::kUnsupported, "[data] {}: JPEG of an uncommon kind ({}); convert it to PNG", origin, reader.text);
    case JERR_IMAGE_TOO_BIG:
      fail(Code::kExhausted, "[data] {}: more than {} pixels a side; scale it down", origin, kMaxImageSidePx);
    case JERR_OUT_OF_MEMORY:
      fail(Code::kUnavailable, "[data] {}: not enough memory to decode the JPEG", origin);
    case JERR_NO_BACKING_STORE:
      fail(Code::kExhausted, "[data] {}: decoding the JPEG would take more than {} MiB of memory; save it as baseline",
           origin, kMaxMemoryBytes >> 20);
    default:
      fail(Code::kDataCorruption, "[data] {}: damaged or truncated JPEG ({}); replace or remove it", origin,
           reader.text);
  }
}

}  // namespace

Picture decode_jpeg(std::string_view bytes, std::string_view origin) {
  JpegReader reader;
  const struct Close {
    JpegReader& reader;
    ~Close() { jpeg_destroy_decompress(&reader.info); }
  } close{reader};
  if (!read_header(reader, bytes)) fail_jpeg(reader, origin);
  const std::int64_t width = reader.info.image_width, height = reader.info.image_height;
  check_image_size(width, height, origin);
  std::vector<unsigned char> line(static_cast<std::size_t>(width) * 4);
  Picture picture = Picture::of_size(height, width);
  if (!read_pixels(reader, line.data(), picture.planes.get())) fail_jpeg(reader, origin);
  return picture;
}

}  // namespace recast
