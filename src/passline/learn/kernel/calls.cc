// What XLA calls: a tanh network's outputs, their gradient, and the gradient of a minibatch.
//
// Parts of the rows are computed by as many threads as XLA has, and their gradients are added up in
// a fixed order: the same bits for any number of threads. Shapes and types are checked in Python;
// all calls are bound in the same way, for each way takes the compiler a second.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "memory.h"
#include "network.h"
#include "objective.h"
#include "products.h"
#include "tiles.h"
#include "xla/ffi/api/ffi.h"

namespace passline {
namespace {

namespace ffi = xla::ffi;

constexpr int kPartBlocks = 4;  // blocks that are worth a thread of their own
constexpr int kParts = 8;       // of the rows at most, each with a gradient of its own

// Runs task(0..n-1) on this thread and on those of XLA that are free. This thread never waits for
// a task that nobody has begun, so that calls on all of XLA's threads cannot block each other.
template <typename Task>
void for_each(ffi::ThreadPool& pool, int n, const Task& task) {
  struct Shared {
    std::atomic<int> next{0};
    int n_done = 0;
    std::mutex mutex;
    std::condition_variable is_done;
  };
  if (n == 1) return task(0);
  auto shared = std::make_shared<Shared>();
  auto work = [shared, n, &task] {
    int n_own = 0;
    for (int part; (part = shared->next.fetch_add(1)) < n; ++n_own) task(part);
    if (n_own == 0) return;
    std::lock_guard<std::mutex> lock(shared->mutex);
    shared->n_done += n_own;
    if (shared->n_done == n) shared->is_done.notify_all();
  };
  const int n_helpers = std::min<int>(pool.num_threads(), n) - 1;
  for (int i = 0; i < n_helpers; ++i) pool.Schedule(decltype(work)(work));
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->is_done.wait(lock, [&] { return shared->n_done == n; });
}

// Memory of a call, on the thread that makes it, and of a part, on the thread that computes it.
Arena& call_arena() {
  static thread_local Arena arena;
  arena.restart();
  return arena;
}

Arena& part_arena() {
  static thread_local Arena arena;
  arena.restart();
  return arena;
}

// Blocks of rows, in parts.
struct Parts {
  explicit Parts(size_t n_rows)
      : n_rows(n_rows),
        n_blocks(static_cast<int>((n_rows + kBlock - 1) / kBlock)),
        n(std::clamp((n_blocks + kPartBlocks - 1) / kPartBlocks, 1, kParts)) {}

  // Runs task(first row, rows in it) for the blocks of a part.
  template <typename Task>
  void for_blocks_of(int part, const Task& task) const {
    const int first = static_cast<int>(static_cast<int64_t>(n_blocks) * part / n);
    const int stop = static_cast<int>(static_cast<int64_t>(n_blocks) * (part + 1) / n);
    for (int block = first; block < stop; ++block) {
      const size_t row = static_cast<size_t>(block) * kBlock;
      task(row, static_cast<int>(std::min<size_t>(n_rows - row, kBlock)));
    }
  }

  size_t n_rows;
  int n_blocks;
  int n;
};

template <typename T>
const T* data_of(const ffi::RemainingArgs& args, size_t i) {
  return static_cast<const T*>(args.get<ffi::AnyBuffer>(i)->untyped_data());
}

template <typename T>
T* data_of(const ffi::RemainingRets& rets, size_t i) {
  return static_cast<T*>((*rets.get<ffi::AnyBuffer>(i))->untyped_data());
}

ffi::AnyBuffer::Dimensions shape_of(const ffi::RemainingArgs& args, size_t i) {
  return args.get<ffi::AnyBuffer>(i)->dimensions();
}

// Reads layers w0, b0, w1, ... from an argument on.
Net read_net(const ffi::RemainingArgs& args, int first, int n_layers) {
  Net net;
  for (int i = first; i < first + 2 * n_layers; i += 2) {
    const auto shape = shape_of(args, i);
    net.is_single = shape.size() == 1;
    net.layers.push_back({static_cast<int>(shape.back()),
                          net.is_single ? 1 : static_cast<int>(shape.front()),
                          data_of<float>(args, i), data_of<float>(args, i + 1)});
  }
  return net;
}

// Adds up the parts' gradients of a network into results w0, b0, w1, ... from one on.
void write_sums(ffi::ThreadPool& pool, const Net& net, const std::vector<Sums>& parts,
                const ffi::RemainingRets& rets, int first) {
  struct Piece {
    int layer, out_tile;
  };
  std::vector<Piece> pieces;
  for (int i = 0; i <= net.n_hidden(); ++i) {
    for (int o = 0; o < net.layers[i].out_tiles(); ++o) pieces.push_back({i, o});
  }
  for_each(pool, static_cast<int>(pieces.size()), [&](int piece) {
    const auto [layer, out_tile] = pieces[piece];
    gather(net, parts, layer, out_tile, data_of<float>(rets, first + 2 * layer),
           data_of<float>(rets, first + 2 * layer + 1));
  });
}

RowSet neighbors(const Bfloat16* obs, int n, int n_features) {
  RowSet rows;
  rows.n = n;
  for (int i = 0; i < n; ++i) rows.at[i] = obs + static_cast<size_t>(i) * n_features;
  return rows;
}

// Takes obs [L, F] and layers; gives outputs, and what is kept of the hidden layers if it is asked.
ffi::Error forward(ffi::ThreadPool pool, ffi::Dictionary, ffi::RemainingArgs args,
                   ffi::RemainingRets rets) {
  const auto* obs = data_of<Bfloat16>(args, 0);
  const Net net = read_net(args, 1, static_cast<int>(args.size()) / 2);
  const int n_features = net.n_features();
  const Parts parts(shape_of(args, 0)[0]);
  const Weights weights = weights_of(net, call_arena());
  for_each(pool, parts.n, [&](int part) {
    const Multiplier multiplier;
    Arena& arena = part_arena();
    const ForwardScratch scratch(net, arena);
    Bfloat16* features = features_space(n_features, arena);
    parts.for_blocks_of(part, [&](size_t row, int n) {
      std::vector<Bfloat16*> kept;
      for (size_t i = 1; i < rets.size(); ++i) {
        kept.push_back(data_of<Bfloat16>(rets, i) + row * net.layers[i - 1].n_out);
      }
      // What is kept is read in whole blocks.
      const int chunks = kept.empty() ? round_up(n, kDepth) / kDepth : kChunks;
      features_right(neighbors(obs + row * n_features, n, n_features), n_features, chunks,
                     features);
      forward_block(net, weights, features, n, chunks, data_of<float>(rets, 0) + row,
                    parts.n_rows, kept, scratch);
    });
  });
  return ffi::Error::Success();
}

// Takes obs [L, F], the outputs' gradient, layers and what was kept; gives the layers' gradients.
ffi::Error backward(ffi::ThreadPool pool, ffi::Dictionary, ffi::RemainingArgs args,
                    ffi::RemainingRets rets) {
  const auto* obs = data_of<Bfloat16>(args, 0);
  const auto* grad = data_of<float>(args, 1);
  const int n_layers = static_cast<int>(rets.size()) / 2;
  const Net net = read_net(args, 2, n_layers);
  const int n_features = net.n_features();
  const Parts parts(shape_of(args, 0)[0]);
  Arena& of_call = call_arena();
  const Weights transposed = transposed_of(net, of_call);
  std::vector<Sums> sums;
  for (int part = 0; part < parts.n; ++part) sums.emplace_back(net, of_call);
  for_each(pool, parts.n, [&](int part) {
    const Multiplier multiplier;
    Arena& arena = part_arena();
    const BackwardScratch scratch(net, arena);
    Bfloat16* rows = rows_space(n_features, arena);
    parts.for_blocks_of(part, [&](size_t row, int n) {
      std::vector<const Bfloat16*> kept;
      for (int i = 0; i < net.n_hidden(); ++i) {
        kept.push_back(data_of<Bfloat16>(args, 2 + 2 * n_layers + i) + row * net.layers[i].n_out);
      }
      rows_right(neighbors(obs + row * n_features, n, n_features), n_features, rows);
      backward_block(net, transposed, rows, n, grad + row, parts.n_rows, kept, sums[part],
                     scratch);
    });
  });
  write_sums(pool, net, sums, rets, 0);
  return ffi::Error::Success();
}

// A network in the gradient of a minibatch: its weights in both forms, and each part's sums.
struct Learner {
  Learner(Net given, int n_parts, Arena& arena)
      : net(std::move(given)),
        weights(weights_of(net, arena)),
        transposed(transposed_of(net, arena)) {
    for (int part = 0; part < n_parts; ++part) sums.emplace_back(net, arena);
  }
  Net net;
  Weights weights, transposed;
  std::vector<Sums> sums;
};

// A learner on one thread: what lies between its outputs and their gradient.
struct Pass {
  Pass(const Learner& learner, Arena& arena)
      : outputs(arena.take<float>(static_cast<size_t>(learner.net.layers.back().n_out) * kBlock)) {
    for (int i = 0; i < learner.net.n_hidden(); ++i) {
      const size_t width = learner.net.layers[i].n_out;
      written.push_back(arena.take<Bfloat16>(width * kBlock));
    }
    kept.assign(written.begin(), written.end());
  }
  float* outputs;
  std::vector<Bfloat16*> written;     // the hidden layers' activations
  std::vector<const Bfloat16*> kept;  // the same, to be read
};

// Takes obs [T, L, F], what was recorded, blocks, settings and the layers of actor and critic;
// gives what is told, and the layers' gradients.
ffi::Error gradient(ffi::ThreadPool pool, ffi::Dictionary attrs, ffi::RemainingArgs args,
                    ffi::RemainingRets rets) {
  constexpr int kStarts = 7, kSettings = 8, kLayers = 9;
  const auto shape = shape_of(args, 0);
  const auto* obs = data_of<Bfloat16>(args, 0);
  const Decisions decisions{data_of<uint32_t>(args, 1), data_of<int32_t>(args, 2),
                            data_of<float>(args, 3),    data_of<float>(args, 4),
                            data_of<float>(args, 5),    data_of<float>(args, 6)};
  const Minibatch minibatch(data_of<int32_t>(args, kStarts),
                            static_cast<int>(shape_of(args, kStarts)[0]),
                            static_cast<int>(*attrs.get<int64_t>("lane_block")),
                            static_cast<int>(shape[1]), static_cast<int>(shape[0]));
  const auto* given = data_of<float>(args, kSettings);
  Terms terms{given[0], given[1], given[2], given[3], given[4], 0.0f, 1.0f,
              1.0f / static_cast<float>(minibatch.n_rows())};
  if (*attrs.get<int64_t>("is_normalized") != 0) {
    center_advantages(decisions.advantage, minibatch, terms);
  }

  const Parts parts(minibatch.n_rows());
  const int n_layers = static_cast<int>(rets.size()) / 4;
  Arena& of_call = call_arena();
  Learner actor(read_net(args, kLayers, n_layers), parts.n, of_call);
  Learner critic(read_net(args, kLayers + 2 * n_layers, n_layers), parts.n, of_call);
  const int n_features = actor.net.n_features();
  const int n_actions = actor.net.layers.back().n_out;
  std::vector<Totals> totals(parts.n);
  for_each(pool, parts.n, [&](int part) {
    const Multiplier multiplier;
    Arena& arena = part_arena();
    const ForwardScratch forward_scratch(actor.net, arena);
    const BackwardScratch backward_scratch(actor.net, arena);
    Bfloat16* features = features_space(n_features, arena);
    Bfloat16* over_rows = rows_space(n_features, arena);
    const Pass acting(actor, arena), judging(critic, arena);
    parts.for_blocks_of(part, [&](size_t row, int n) {
      int32_t places[kBlock];
      minibatch.places(row, n, places);
      RowSet rows;
      rows.n = n;
      for (int i = 0; i < n; ++i) {
        rows.at[i] = obs + static_cast<size_t>(places[i]) * n_features;
      }
      features_right(rows, n_features, kChunks, features);
      rows_right(rows, n_features, over_rows);
      const auto forward_of = [&](const Learner& learner, const Pass& pass) {
        forward_block(learner.net, learner.weights, features, n, kChunks, pass.outputs, kBlock,
                      pass.written, forward_scratch);
      };
      const auto backward_of = [&](Learner& learner, const Pass& pass) {
        backward_block(learner.net, learner.transposed, over_rows, n, pass.outputs, kBlock,
                       pass.kept, learner.sums[part], backward_scratch);
      };
      forward_of(actor, acting);
      forward_of(critic, judging);
      objective_block(decisions, places, n, n_actions, terms, acting.outputs, judging.outputs,
                      totals[part]);
      backward_of(actor, acting);
      backward_of(critic, judging);
    });
  });
  write_sums(pool, actor.net, actor.sums, rets, 1);
  write_sums(pool, critic.net, critic.sums, rets, 1 + 2 * n_layers);
  for (int i = 0; i < kTold; ++i) {
    double sum = 0.0;
    for (const Totals& part : totals) sum += _mm512_reduce_add_ps(part.of[i]);
    data_of<float>(rets, 0)[i] =
        static_cast<float>(sum / static_cast<double>(minibatch.n_rows()));
  }
  return ffi::Error::Success();
}

}  // namespace
}  // namespace passline

// Prepares this process to multiply; returns whether it can.
extern "C" int passline_prepare() { return passline::request_multiplier(); }

namespace {

auto binding() {
  return xla::ffi::Ffi::Bind()
      .Ctx<xla::ffi::ThreadPool>()
      .Attrs()
      .RemainingArgs()
      .RemainingRets();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(passline_forward, passline::forward, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(passline_backward, passline::backward, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(passline_gradient, passline::gradient, binding());
