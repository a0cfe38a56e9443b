// epochfs status DIR: how is a mount doing, and which abilities of the kernel does it use?
#include <capnp/compat/json.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cstdio>

#include "fs/commands/commands.h"
#include "fs/commands/mount_client.h"
#include "journal/control/space_text.h"

namespace epochfs::fs {
namespace {

const CommandHelp kHelp{
    "epochfs status DIR [--json]",
    "Shows how the mount of DIR fares, and which abilities of the kernel are in force. Of\n"
    "barriers that applications waited for longer than 50 ms it names the operation that was\n"
    "waited for: the newest ones and the longest.\n"
    "Exit status: 3 where records were lost or room is short, 6 the mount does not answer."};

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

double mib(uint64_t bytes) { return double(bytes) / (1 << 20); }

void print_space(rpc::JournalSpace::Reader s) {
  const uint64_t all = s.getSegmentBytes() + s.getCheckpointBytes() + s.getPreImageBytes();
  const std::string quota =
      s.getQuotaBytes() == 0
          ? "no quota"
          : fmt::format("{:.1f} % of its quota of {:.0f} MiB",
                        100.0 * double(all) / double(s.getQuotaBytes()), mib(s.getQuotaBytes()));
  line("space", "{:.1f} MiB of segments, {:.1f} in {} checkpoints, {:.1f} of pre-images: {}",
       mib(s.getSegmentBytes()), mib(s.getCheckpointBytes()), s.getCheckpoints(),
       mib(s.getPreImageBytes()), quota);
  for (const auto& [name, text] : space_warnings(s)) line(name, "{}", text);
}

// Whether there is something that the administrator should look at.
bool is_unhealthy(rpc::MountInfo::Reader m) {
  return m.getRecordsLost() != 0 || !space_warnings(m.getSpace()).empty();
}

void print_lines(rpc::MountInfo::Reader m) {
  fmt::print("{}  mounted since {:%Y-%m-%d %H:%M:%S} by process {}\n",
             escape(std::string(m.getMountpoint())),
             fmt::localtime(time_t(m.getMountedNs() / 1'000'000'000)), m.getPid());
  line("backing", "{}", escape(std::string(m.getBacking())));
  line("journal", "{}", escape(std::string(m.getJournal())));
  print_space(m.getSpace());
  line("open epoch", "{}, with {} records", m.getOpenEpoch(), m.getRecordsInOpenEpoch());
  if (m.getRecordsLost()) line("records lost", "{}: no room in the journal", m.getRecordsLost());
  line("barriers",
       "{}, {} called off; pause {:.3f} ms last, {:.3f} ms 99th percentile, {:.3f} ms "
       "at most",
       m.getBarriers(), m.getBarriersCalledOff(), ms(m.getLastBarrierPauseNs()),
       ms(m.getP99BarrierPauseNs()), ms(m.getMaxBarrierPauseNs()));
  for (auto pause : m.getLongPauses()) {
    line("long pause",
         "{:.0f} ms{} for {} ({:%Y-%m-%d %H:%M:%S}; {:.3f} ms until operations under "
         "way had ended, {:.3f} ms in the cut)",
         ms(pause.getPauseNs()), pause.getCalledOff() ? ", called off," : "",
         escape(std::string(pause.getWaitedFor())),
         fmt::localtime(time_t(pause.getTimeNs() / 1'000'000'000)), ms(pause.getDrainNs()),
         ms(pause.getCutNs()));
  }
  line("files", "{} known, {} open", m.getInodes(), m.getOpenFiles());
  line("process", "{} of {} descriptors, {:.1f} MiB of memory", m.getDescriptors(),
       m.getDescriptorLimit(), double(m.getResidentBytes()) / (1 << 20));
  line("cores awake", "{:.3f} s in all", double(m.getAwakeNs()) / 1e9);
  line("in force", "{}", joined(m.getFeatures()));
  for (auto missing : m.getMissing()) line("not in force", "{}", missing.cStr());
}

Result<ExitStatus> run(const Arguments& arguments) {
  EPOCHFS_TRY(
      Parsed parsed,
      parse_command(kHelp, Options().argument("dir").flag("json", "as a JSON object"), arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  EPOCHFS_TRY(auto client, MountClient::connect("show status of", parsed.text("dir")));
  EPOCHFS_TRY(auto answer,
              client->wait(client->mount().infoRequest().send(), std::chrono::seconds(10)));
  auto info = answer.getInfo();
  if (parsed.has("json")) {
    fmt::print("{}\n", capnp::JsonCodec().encode(info).cStr());
  } else {
    print_lines(info);
  }
  return is_unhealthy(info) ? ExitStatus::kPartial : ExitStatus::kOk;
}

}  // namespace

int mount_status_command(const Arguments& arguments) {
  auto status = run(arguments);
  return status ? int(*status) : report(status.error());
}

}  // namespace epochfs::fs
