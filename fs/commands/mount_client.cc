#include "fs/commands/mount_client.h"

#include <fmt/format.h>

#include "journal/volume/volume.h"

namespace epochfs::fs {

Result<std::unique_ptr<MountClient>> MountClient::connect(const std::string& doing,
                                                          const std::string& dir) {
  const std::string what = doing + " " + dir;
  auto journal = journal::journal_path_of(dir);
  if (!journal && !says_mount_is_gone(journal.error().code)) {
    return tl::unexpected(journal.error());
  }
  if (!journal) {
    return fail(fmt::format("{}: the mount's process has ended; mount it again with: epochfs mount "
                            "{}",
                            what, dir),
                0, ExitStatus::kUnreachable);
  }
  std::unique_ptr<MountClient> made(
      new MountClient(what, *journal + "/" + journal::kControlSocket));
  auto client =
      UnixRpcClient::connect(*made->io_.lowLevelProvider, made->socket_, kCommandPatience);
  if (!client && client.error().status == ExitStatus::kNotAuthorized) {
    return fail(fmt::format("{}: {}", what, client.error().message()), 0,
                ExitStatus::kNotAuthorized);
  }
  if (!client) {
    return fail(fmt::format("{}: no mount answers ({}); mount the directory with: epochfs mount "
                            "DIR",
                            what, client.error().message()),
                0, ExitStatus::kUnreachable);
  }
  made->client_ = *std::move(client);
  return made;
}

tl::unexpected<Error> MountClient::no_answer(const char* why) const {
  return fail(fmt::format("{}: the mount does not answer on {}: {}", doing_, socket_, why), 0,
              ExitStatus::kUnreachable);
}

tl::unexpected<Error> MountClient::late() const {
  return fail(doing_ + ": the mount does not answer", 0, ExitStatus::kTimedOut);
}

tl::unexpected<Error> MountClient::interrupted() const {
  return fail(doing_ + ": interrupted before the mount's answer; it may have been done or not");
}

}  // namespace epochfs::fs
