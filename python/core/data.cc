#include <ATen/ATen.h>

#include "bindings.h"
#include "recast/base/error.h"
#include "recast/data/augment.h"
#include "recast/data/image.h"
#include "recast/data/preprocess.h"
#include "recast/format/files.h"
#include "recast/format/printable.h"
#include "recast/run/image_pool.h"
#include "recast/run/image_source.h"

namespace recast::python {
namespace {

Split parse_split(const std::string& text) {
  for (const Split split : kSplits)
    if (name(split) == text) return split;
  fail(Code::kInvalidArgument, "[data] a split is train, validation or test, got '{}'", printable(text));
}

Preprocessing parse_preprocessing(const py::dict& fields) {
  Preprocessing p;
  take(fields, "size_px", p.size_px);
  take(fields, "crop_pct", p.crop_pct);
  take(fields, "interpolation", p.interpolation);
  take(fields, "mean", p.mean);
  take(fields, "std", p.std);
  check(p);
  return p;
}

using SharedDataset = std::shared_ptr<const Dataset>;

py::list examples_of(const Dataset& dataset, const std::string& split) {
  py::list rows;
  for (const Example& example : dataset.examples(parse_split(split)))
    rows.append(py::make_tuple(example.id, example.label));
  return rows;
}

std::shared_ptr<ImageSource> open_images(const SharedDataset& dataset, const std::string& split,
                                         const Preprocessing& preprocessing, const std::string& augmentation,
                                         int threads, std::int64_t cache_bytes, const std::string& bad_images) {
  ImageSourceOptions options;
  options.augmentation = Augmentation::named(augmentation);
  options.threads = threads;
  if (cache_bytes < 0) fail(Code::kInvalidArgument, "[data] cache_bytes must be 0 or more, got {}", cache_bytes);
  options.cache_bytes = cache_bytes;
  options.bad_images = parse_bad_images(bad_images);
  const Computing computing;
  auto images = std::make_shared<ImageSource>(dataset, parse_split(split), preprocessing, options);
  if (options.bad_images == BadImages::kSkip) images->decode_all(nullptr, nullptr);
  return images;
}

/// The rows of one pass, in its order.
std::vector<std::int64_t> order_of(const ImageSource& images, bool shuffled, std::uint64_t seed, std::uint64_t epoch) {
  return shuffled ? Key(seed).fold("order", epoch).permutation(images.rows()) : all_rows(images.rows());
}

/// A stream keeps its source alive: what it reads is the source's.
struct Stream {
  std::shared_ptr<const ImageSource> images;
  std::unique_ptr<BatchStream> batches;
  ~Stream() {
    const py::gil_scoped_release release;  // its workers are waited for
    batches.reset();
  }
};

std::unique_ptr<Stream> open_stream(std::shared_ptr<const ImageSource> images, std::vector<std::int64_t> order,
                                    std::int64_t batch_size, bool augmented, std::uint64_t seed, std::uint64_t epoch) {
  auto stream = std::make_unique<Stream>();
  stream->batches = images->open(std::move(order), batch_size, augmented, Key(seed).fold("augment", epoch));
  stream->images = std::move(images);
  return stream;
}

py::object next_batch(Stream& stream) {
  std::optional<Batch> batch;
  {
    const Computing computing;
    const at::NoGradGuard no_grad;
    batch = stream.batches->next();
  }
  if (!batch) return py::none();
  return py::make_tuple(batch->column("input"), batch->column("label"), batch->column("sample"));
}

}  // namespace

void add_data(py::module_& m) {
  py::class_<Dataset, std::shared_ptr<Dataset>> dataset(m, "Dataset", "Labelled images in three splits.");
  dataset.def_property_readonly("classes", [](const Dataset& d) { return d.classes(); })
      .def_property_readonly("superclasses", [](const Dataset& d) { return d.superclasses(); })
      .def_property_readonly("path", [](const Dataset& d) { return d.path().string(); })
      .def_property_readonly("kind", [](const Dataset& d) { return std::string(d.kind()); })
      .def("examples", &examples_of, py::arg("split"), "[(id, label)] of a split.")
      .def(
          "image",
          [](const Dataset& d, const std::string& split, std::int64_t row) {
            const Split which = parse_split(split);
            const auto rows = static_cast<std::int64_t>(d.examples(which).size());
            if (row < 0 || row >= rows) throw py::index_error("row " + std::to_string(row));
            const Computing computing;
            return d.image(which, row);
          },
          py::arg("split"), py::arg("row"), "uint8 [3, H, W], as stored.")
      .def(
          "describe", [](const Dataset& d) { return to_python(describe_splits(d)); }, "Counts and digests of splits.")
      // Const: copies share it.
      .def(
          "__deepcopy__", [](const py::object& self, const py::dict&) { return self; }, py::arg("memo"));
  refuse_pickle(dataset,
                "a recast.Dataset cannot be pickled: open it again where it is needed, recast.Dataset(path, ...)");
  m.def(
      "open_dataset",
      [](const py::dict& settings) {
        ImageChoice choice;
        take(settings, "path", choice.data);
        take(settings, "split_seed", choice.split_seed);
        take(settings, "classes", choice.classes);
        take(settings, "superclass", choice.superclasses);
        take(settings, "limit_train", choice.limit_train);
        take(settings, "limit_validation", choice.limit_validation);
        take(settings, "limit_test", choice.limit_test);
        const Computing computing;
        return std::shared_ptr<Dataset>(recast::open_images(choice));
      },
      py::arg("settings"), "Opens a dataset, or some of its classes.");

  py::class_<ImageSource, std::shared_ptr<ImageSource>> source(m, "Images",
                                                               "A split's images, prepared for a backbone.");
  source
      .def(py::init([](std::shared_ptr<Dataset> dataset, const std::string& split, const py::dict& preprocessing,
                       const std::string& augmentation, int threads, std::int64_t cache_bytes,
                       const std::string& bad_images) {
             return open_images(dataset, split, parse_preprocessing(preprocessing), augmentation, threads, cache_bytes,
                                bad_images);
           }),
           py::arg("dataset"), py::arg("split"), py::arg("preprocessing"), py::arg("augmentation"), py::arg("threads"),
           py::arg("cache_bytes"), py::arg("bad_images"))
      .def("__len__", &ImageSource::rows)
      .def(
          "skipped", [](const ImageSource& images) { return to_python(describe_skipped(images.skipped(), 1000)); },
          "{count, first: [{image, reason}]} of what was left out.")
      .def("order", &order_of, py::arg("shuffled"), py::arg("seed"), py::arg("epoch"), "Rows in the order of a pass.");
  refuse_pickle(
      source,
      "the images of a recast.DataLoader or Split are decoded in threads of this process and cannot be copied "
      "or pickled: make another loader of the same Dataset, and give torch's own num_workers=0");
  py::class_<Stream> stream(m, "Stream", "Batches of one pass.");
  stream
      .def(py::init([](std::shared_ptr<ImageSource> images, std::vector<std::int64_t> order, std::int64_t batch_size,
                       bool augmented, std::uint64_t seed, std::uint64_t epoch) {
             return open_stream(std::move(images), std::move(order), batch_size, augmented, seed, epoch);
           }),
           py::arg("images"), py::arg("order"), py::arg("batch_size"), py::arg("augmented"), py::arg("seed"),
           py::arg("epoch"))
      .def("next", &next_batch, "(input, label, sample), or None at the end.");
  refuse_pickle(stream, "a pass over a recast.DataLoader cannot be copied or pickled: iterate the loader again");

  m.def(
      "decode_image",
      [](const py::bytes& content, const std::string& origin) {
        const auto bytes = static_cast<std::string_view>(content);
        const Computing computing;
        return decode_image(bytes, printable(origin, 300));
      },
      py::arg("content"), py::arg("origin"), "JPEG, PNG or WebP bytes as uint8 [3, H, W].");
  m.def(
      "read_image",
      [](const Path& file) {
        const Computing computing;
        return decode_image(read_file(file, kMaxImageBytes), printable(file, 300));
      },
      py::arg("file"), "A JPEG, PNG or WebP file as uint8 [3, H, W].");
  m.def(
      "evaluation_pixels",
      [](const at::Tensor& image, const py::dict& preprocessing) {
        const Preprocessing p = parse_preprocessing(preprocessing);
        require_dense(image, "an image");
        const Computing computing;
        return evaluation_pixels(image, p);
      },
      py::arg("image"), py::arg("preprocessing"), "uint8 [3, H, W] resized and cropped to uint8 [3, S, S].");
  m.def(
      "normalise",
      [](const at::Tensor& pixels, const py::dict& preprocessing) {
        const Preprocessing p = parse_preprocessing(preprocessing);
        require_dense(pixels, "pixels");
        const Computing computing;
        return normalise(pixels, p);
      },
      py::arg("pixels"), py::arg("preprocessing"), "uint8 [B, 3, S, S] as float32, normalised.");
  m.def(
      "encode_png",
      [](const at::Tensor& rgb) {
        std::string file;
        require_dense(rgb, "an image");
        {
          const Computing computing;
          file = encode_png(rgb);
        }
        return py::bytes(file);
      },
      py::arg("image"), "uint8 [3, H, W] as the bytes of a PNG file.");
}

}  // namespace recast::python
