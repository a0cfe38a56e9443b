#include "journal/control/space_text.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace epochfs {

std::vector<SpaceWarning> space_warnings(rpc::JournalSpace::Reader space) {
  std::vector<SpaceWarning> warnings;
  const std::string pressure = space.getPressure();
  if (!pressure.empty() && pressure != "none") {
    const time_t since = time_t(space.getPressureSinceNs() / 1'000'000'000);
    warnings.push_back({"room is short", fmt::format("{}, since {:%Y-%m-%d %H:%M:%S}", pressure,
                                                     fmt::localtime(since))});
  }
  if (space.getBlocking()) {
    warnings.push_back({"blocking", "applications wait until the journal has room"});
  }
  if (space.getError().size() > 0) warnings.push_back({"housekeeping", space.getError()});
  return warnings;
}

}  // namespace epochfs
