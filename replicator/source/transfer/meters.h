// Meters: how far is a transfer, and what came of a comparison? They keep the Progress of a
// relationship (relationship/board.h) while senders send.
#pragma once

#include <functional>
#include <string>

#include "journal/changes/change_set.h"
#include "replicator/source/sending/sender.h"
#include "replicator/source/transfer/context.h"

namespace epochfs::replicator {

// Shows how far the transfer is, and adds what it sent to the totals. Several senders of
// one transfer add up.
class ProgressMeter {
 public:
  using OnProgress = std::function<void(const SenderCounters&)>;

  ProgressMeter(TransferContext& c, Progress::Phase phase);
  ~ProgressMeter();
  ProgressMeter(const ProgressMeter&) = delete;

  // For the Sender of a change set, and for that of a walk, whose work is to be expected.
  OnProgress follow(const journal::ChangeSet& set);
  OnProgress follow_walk() { return meter(); }
  // More work (Sender::work_of) will come.
  void expect(uint64_t work);

 private:
  OnProgress meter();

  TransferContext& c_;
};

// Says how a comparison of source and target fares, and once what came of it. One that was
// broken off goes on under the reason and from the moment with which it began.
class ComparisonMeter {
 public:
  // what: is compared.
  ComparisonMeter(TransferContext& c, const char* what, const std::string& reason);

  // For the senders: what the walk compares, and what is sent besides.
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
