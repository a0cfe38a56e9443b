// JsonLine: how does a message of the schema become one line of JSON? Names and forms are
// those that the schema's annotations give (schema/control.capnp). One thread.
#pragma once

#include <capnp/compat/json.h>

#include <string>
#include <string_view>

namespace epochfs::journal {

template <typename Message>
class JsonLine {
 public:
  JsonLine() { codec_.handleByAnnotation<Message>(); }

  // Appends the object and a newline.
  void append(typename Message::Builder message, std::string& out) const {
    const kj::String text = codec_.encode(message);
    out.append(text.begin(), text.size());
    out += '\n';
  }

 private:
  capnp::JsonCodec codec_;
};

// Bytes that may not be UTF-8, for a field that is encoded as base64.
inline capnp::Data::Reader data_of(std::string_view bytes) {
  return {reinterpret_cast<const capnp::byte*>(bytes.data()), bytes.size()};
}

}  // namespace epochfs::journal
