// epochfs status DIR: how does a mount fare, and what of the kernel is in force?
#include <capnp/compat/json.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cstdio>
#include <iostream>

#include "fs/commands.h"
#include "fs/mount_client.h"

namespace epochfs {
namespace {

namespace po = boost::program_options;

const CommandHelp kHelp{
    "epochfs status DIR [--json]",
    "Shows how the mount of DIR fares, and which abilities of the kernel are in force.\n"
    "Exit status: 3 where records were lost, 6 the mount does not answer."};

template <typename... Arguments>
void line(const char* name, fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  fmt::print("  {:<16}{}\n", name, fmt::format(format, std::forward<Arguments>(arguments)...));
}

double ms(uint64_t ns) { return double(ns) / 1e6; }

std::string joined(capnp::List<capnp::Text>::Reader texts) {
  std::string all;
  for (auto text : texts) all += (all.empty() ? "" : ", ") + std::string(text);
  return all;
}

void print_lines(rpc::MountInfo::Reader m) {
  fmt::print("{}  mounted since {:%Y-%m-%d %H:%M:%S} by process {}\n",
             escape(std::string(m.getMountpoint())),
             fmt::localtime(time_t(m.getMountedNs() / 1'000'000'000)), m.getPid());
  line("backing", "{}", escape(std::string(m.getBacking())));
  line("journal", "{} ({} MiB)", escape(std::string(m.getJournal())), m.getJournalBytes() >> 20);
  line("open epoch", "{}, with {} records", m.getOpenEpoch(), m.getRecordsInOpenEpoch());
  if (m.getRecordsLost()) line("records lost", "{}: no room in the journal", m.getRecordsLost());
  line("barriers", "{}, {} called off; pause {:.3f} ms last, {:.3f} ms 99th percentile, {:.3f} ms "
       "at most", m.getBarriers(), m.getBarriersCalledOff(), ms(m.getLastBarrierPauseNs()),
       ms(m.getP99BarrierPauseNs()), ms(m.getMaxBarrierPauseNs()));
  line("files", "{} known, {} open", m.getInodes(), m.getOpenFiles());
  line("process", "{} of {} descriptors, {:.1f} MiB of memory", m.getDescriptors(),
       m.getDescriptorLimit(), double(m.getResidentBytes()) / (1 << 20));
  line("cores awake", "{:.3f} s in all", double(m.getAwakeNs()) / 1e9);
  line("in force", "{}", joined(m.getFeatures()));
  for (auto missing : m.getMissing()) line("not in force", "{}", missing.cStr());
}

Result<ExitStatus> run(const Arguments& arguments) {
  po::options_description options;
  options.add_options()("dir", po::value<std::string>()->required())("json", "as a JSON object");
  EPOCHFS_TRY(Parsed parsed, parse_command(kHelp, options, {"dir"}, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  EPOCHFS_TRY(auto client,
              MountClient::connect("show status of", parsed.values["dir"].as<std::string>()));
  EPOCHFS_TRY(auto answer,
              client->wait(client->mount().infoRequest().send(), std::chrono::seconds(10)));
  auto info = answer.getInfo();
  if (parsed.values.count("json")) {
    std::cout << capnp::JsonCodec().encode(info).cStr() << std::endl;
  } else {
    print_lines(info);
  }
  return info.getRecordsLost() ? ExitStatus::kPartial : ExitStatus::kOk;
}

}  // namespace

int mount_status_command(const Arguments& arguments) {
  auto status = run(arguments);
  return status ? int(*status) : report(status.error());
}

}  // namespace epochfs
