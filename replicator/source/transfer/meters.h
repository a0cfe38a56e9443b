// Meters: how far is a transfer, and what did a comparison find? They keep the Progress of a
// relationship (relationship/board.h) up to date while senders send.
#pragma once

#include <functional>
#include <string>

#include "journal/changes/change_set.h"
#include "replicator/source/sending/sender.h"
#include "replicator/source/transfer/context.h"

namespace epochfs::replicator {

// Shows how far the transfer is, and adds what was sent to the totals. Adds up all senders of
// one transfer.
class ProgressMeter {
 public:
  using OnProgress = std::function<void(const SenderCounters&)>;

  ProgressMeter(TransferContext& c, Progress::Phase phase);
  ~ProgressMeter();
  ProgressMeter(const ProgressMeter&) = delete;

  // What the Sender of a change set reports to. Expects the work of the set.
  OnProgress follow(const journal::ChangeSet& set);
  // What the Sender of a walk reports to. The walk calls expect() for its own work.
  OnProgress follow_walk() { return meter(); }
  // That much more work (Sender::work_of) is due.
  void expect(uint64_t work);

 private:
  OnProgress meter();

  TransferContext& c_;
};

// Shows how far a comparison of source and target is, and logs its result once. A comparison
// that was interrupted keeps the reason and the time with which it began.
class ComparisonMeter {
 public:
  // what: what is compared, for the log.
  ComparisonMeter(TransferContext& c, const char* what, const std::string& reason);

  // What the senders report: what the walk compares, and what is sent besides.
  void walked(const SenderCounters& now) { walked_ = now, show(); }
  void completed(const SenderCounters& now) { completed_ = now, show(); }
  void done();

 private:
  void show();
  template <typename Change>
  void change(const Change& change) {
    c_.board.update(c_.relationship, [&](Progress& p) { change(p.compared); });
  }

  TransferContext& c_;
  const char* what_;
  uint64_t sent_before_ = 0;
  SenderCounters walked_, completed_;
};

}  // namespace epochfs::replicator
