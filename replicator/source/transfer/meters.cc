#include "replicator/source/transfer/meters.h"

#include <utility>

#include "journal/base/logging.h"

namespace epochfs::replicator {

ProgressMeter::ProgressMeter(TransferContext& c, Progress::Phase phase) : c_(c) {
  c_.board.update(c_.relationship, [&](Progress& p) {
    p.phase = phase;
    p.work_total = 0;
    p.work_done = 0;
    p.transfer_began_ns = now_ns();
  });
}

ProgressMeter::~ProgressMeter() {
  c_.board.update(c_.relationship, [](Progress& p) { p.phase = Progress::Phase::kIdle; });
}

ProgressMeter::OnProgress ProgressMeter::follow(const journal::ChangeSet& set) {
  uint64_t work = 0;
  for (const auto& [id, change] : set.files) work += Sender::foreseen_work_of(change);
  expect(work);
  return [this, meter = meter(), unforeseen = uint64_t{0}](const SenderCounters& now) mutable {
    expect(now.work_unforeseen - std::exchange(unforeseen, now.work_unforeseen));
    meter(now);
  };
}

void ProgressMeter::expect(uint64_t work) {
  if (work == 0) return;
  c_.board.update(c_.relationship, [&](Progress& p) { p.work_total += work; });
}

ProgressMeter::OnProgress ProgressMeter::meter() {
  return [this, before = SenderCounters{}](const SenderCounters& now) mutable {
    c_.board.update(c_.relationship, [&](Progress& p) {
      p.files_sent += now.files - before.files;
      p.bytes_read += now.bytes_read - before.bytes_read;
      p.bytes_sent += now.bytes_sent - before.bytes_sent;
      p.work_done += now.work_done - before.work_done;
    });
    before = now;
  };
}

ComparisonMeter::ComparisonMeter(TransferContext& c, const char* what, const std::string& reason)
    : c_(c), what_(what) {
  change([&](Progress::Comparison& compared) {
    const bool goes_on = compared.began_ns != 0 && compared.ended_ns == 0;
    if (!goes_on) compared = {.began_ns = now_ns(), .reason = reason};
    sent_before_ = compared.bytes_sent;
    compared.files = compared.differed = 0;  // every file is compared again
  });
}

void ComparisonMeter::done() {
  Progress::Comparison result;
  change([&](Progress::Comparison& compared) {
    if (compared.ended_ns == 0) compared.ended_ns = now_ns();
    result = compared;
  });
  log::info("compared source and target",
            {{"relationship", c_.relationship},
             {"what", what_},
             {"reason", result.reason},
             {"files", result.files},
             {"differed", result.differed},
             {"bytes_sent", result.bytes_sent},
             {"ms", (result.ended_ns - result.began_ns) / 1'000'000}});
}

void ComparisonMeter::show() {
  change([&](Progress::Comparison& compared) {
    compared.files = walked_.compared;
    compared.differed = walked_.differed;
    compared.bytes_sent = sent_before_ + walked_.bytes_sent + completed_.bytes_sent;
  });
}

}  // namespace epochfs::replicator
