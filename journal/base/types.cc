#include "journal/base/types.h"

#include <algorithm>
#include <boost/uuid/random_generator.hpp>
#include <boost/uuid/string_generator.hpp>
#include <boost/uuid/uuid_io.hpp>
#include <stdexcept>

namespace epochfs {
namespace {

Uuid from_boost(const boost::uuids::uuid& id) {
  Uuid out;
  std::copy(id.begin(), id.end(), out.bytes.begin());
  return out;
}

}  // namespace

std::string Uuid::to_string() const {
  boost::uuids::uuid id;
  std::copy(bytes.begin(), bytes.end(), id.begin());
  return boost::uuids::to_string(id);
}

bool Uuid::parse(std::string_view text, Uuid& out) try {
  out = from_boost(boost::uuids::string_generator()(text.begin(), text.end()));
  return out.to_string() == text;  // the generator takes other forms, too
} catch (const std::runtime_error&) {
  return false;
}

Uuid Uuid::random() { return from_boost(boost::uuids::random_generator()()); }

}  // namespace epochfs
