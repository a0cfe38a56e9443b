#include "journal/control/command_line.h"

#include <fmt/format.h>

#include <boost/algorithm/string/trim_all.hpp>
#include <boost/program_options.hpp>
#include <charconv>
#include <iostream>
#include <sstream>

#include "journal/control/printing.h"

namespace epochfs {

namespace po = boost::program_options;

namespace {

// A value of digits only. Boost's own reading of an unsigned number takes -1 for the largest one.
struct Number {
  uint64_t value = 0;
};

void validate(boost::any& out, const std::vector<std::string>& texts, Number*, int) {
  po::validators::check_first_occurrence(out);
  const std::string& text = po::validators::get_single_string(texts);
  Number number;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number.value);
  if (code != std::errc() || end != text.data() + text.size()) {
    throw po::invalid_option_value(text);
  }
  out = number;
}

using Strings = std::vector<std::string>;

}  // namespace

struct Options::Impl {
  po::options_description all{"Options"};
  std::vector<std::string> positional;
  bool last_takes_all = false;

  void add(const char* name, const po::value_semantic* value, const std::string& help) {
    all.add_options()(name, value, help.c_str());
  }
  // A bare argument has no description, which keeps it out of --help.
  void add_argument(const char* name, const po::value_semantic* value) {
    positional.emplace_back(name);
    all.add_options()(name, value, "");
  }
};

Options::Options() : impl_(std::make_unique<Impl>()) {}
Options::Options(Options&&) noexcept = default;
Options& Options::operator=(Options&&) noexcept = default;
Options::~Options() = default;

Options& Options::flag(const char* name, const char* help) {
  impl_->all.add_options()(name, help);
  return *this;
}
Options& Options::text(const char* name, const char* value, const std::string& help) {
  impl_->add(name, po::value<std::string>()->value_name(value), help);
  return *this;
}
Options& Options::text(const char* name, const char* value, const std::string& help,
                       const std::string& otherwise) {
  return text(name, value, help, otherwise, otherwise);
}
Options& Options::text(const char* name, const char* value, const std::string& help,
                       const std::string& otherwise, const std::string& shown) {
  impl_->add(name, po::value<std::string>()->value_name(value)->default_value(otherwise, shown),
             help);
  return *this;
}
Options& Options::required_text(const char* name, const char* value, const std::string& help) {
  impl_->add(name, po::value<std::string>()->value_name(value)->required(), help);
  return *this;
}
Options& Options::texts(const char* name, const char* value, const std::string& help) {
  impl_->add(name, po::value<Strings>()->composing()->value_name(value), help);
  return *this;
}
Options& Options::number(const char* name, const char* value, const std::string& help) {
  impl_->add(name, po::value<Number>()->value_name(value), help);
  return *this;
}
Options& Options::number(const char* name, const char* value, const std::string& help,
                         uint64_t otherwise) {
  impl_->add(name,
             po::value<Number>()->value_name(value)->default_value(Number{otherwise},
                                                                   std::to_string(otherwise)),
             help);
  return *this;
}
Options& Options::decimal(const char* name, const char* value, const std::string& help) {
  impl_->add(name, po::value<double>()->value_name(value), help);
  return *this;
}
Options& Options::argument(const char* name) {
  impl_->add_argument(name, po::value<std::string>()->required());
  return *this;
}
Options& Options::optional_argument(const char* name) {
  impl_->add_argument(name, po::value<std::string>());
  return *this;
}
Options& Options::number_argument(const char* name) {
  impl_->add_argument(name, po::value<Number>()->required());
  return *this;
}
Options& Options::arguments(const char* name) {
  impl_->add_argument(name, po::value<Strings>()->required());
  impl_->last_takes_all = true;
  return *this;
}

struct Parsed::Impl {
  po::variables_map values;

  template <typename T>
  const T& get(const char* name) const {
    const po::variable_value& value = values[name];
    EPOCHFS_CHECK(!value.empty());
    return value.as<T>();
  }
};

Parsed::Parsed() : impl_(std::make_unique<Impl>()) {}
Parsed::Parsed(Parsed&&) noexcept = default;
Parsed& Parsed::operator=(Parsed&&) noexcept = default;
Parsed::~Parsed() = default;

bool Parsed::has(const char* name) const { return impl_->values.count(name) > 0; }
const std::string& Parsed::text(const char* name) const { return impl_->get<std::string>(name); }
uint64_t Parsed::number(const char* name) const { return impl_->get<Number>(name).value; }
double Parsed::decimal(const char* name) const { return impl_->get<double>(name); }
std::optional<std::string> Parsed::maybe_text(const char* name) const {
  return has(name) ? std::optional(text(name)) : std::nullopt;
}
std::optional<uint64_t> Parsed::maybe_number(const char* name) const {
  return has(name) ? std::optional(number(name)) : std::nullopt;
}
std::vector<std::string> Parsed::texts(const char* name) const {
  return has(name) ? impl_->get<Strings>(name) : Strings{};
}

struct Parser {
  static Result<Parsed> parse(const CommandHelp& help, const Options::Impl& options,
                              const Arguments& arguments) {
    po::options_description all("Options");
    all.add(options.all);
    all.add_options()("help,h", "print this help");

    po::positional_options_description bare;
    for (size_t i = 0; i < options.positional.size(); ++i) {
      const bool last = i + 1 == options.positional.size();
      bare.add(options.positional[i].c_str(), last && options.last_takes_all ? -1 : 1);
    }

    // An error is one line.
    const std::string usage = boost::algorithm::trim_fill_copy(help.usage, " ");
    Parsed parsed;
    po::variables_map& values = parsed.impl_->values;
    try {
      using Style = po::command_line_style::style_t;
      po::store(po::command_line_parser(arguments)
                    .options(all)
                    .positional(bare)
                    .style(Style(po::command_line_style::unix_style &
                                 ~po::command_line_style::allow_guessing))
                    .run(),
                values);
      if (values.count("help")) {
        po::options_description shown("Options");
        for (const auto& option : all.options()) {
          if (!option->description().empty()) shown.add(option);
        }
        std::ostringstream options_text;
        options_text << shown;
        fmt::print("usage: {}\n\n{}\n\n{}", help.usage, help.description, options_text.str());
        parsed.help_shown = true;
        return parsed;
      }
      po::notify(values);
    } catch (const po::too_many_positional_options_error&) {
      return fail(fmt::format("too many arguments; usage: {}", usage), 0, ExitStatus::kUsage);
    } catch (const po::required_option& e) {
      const std::string name = e.get_option_name();
      for (const auto& argument : options.positional) {
        // A missing bare argument is named as the usage line names it.
        if (name == "--" + argument) {
          return fail(fmt::format("missing argument; usage: {}", usage), 0, ExitStatus::kUsage);
        }
      }
      return fail(fmt::format("missing {}; usage: {}", name, usage), 0, ExitStatus::kUsage);
    } catch (const po::error& e) {
      return fail(fmt::format("{}; usage: {}", e.what(), usage), 0, ExitStatus::kUsage);
    }
    return parsed;
  }
  static const Options::Impl& of(const Options& options) { return *options.impl_; }
};

Result<Parsed> parse_command(const CommandHelp& help, const Options& options,
                             const Arguments& arguments) {
  return Parser::parse(help, Parser::of(options), arguments);
}

int report(const Error& error) {
  std::cerr << "epochfs: " << printable(error.message()) << std::endl;
  const bool refused = error.code == EACCES || error.code == EPERM;
  if (refused && error.status == ExitStatus::kFailed) {
    return static_cast<int>(ExitStatus::kNotAuthorized);
  }
  return static_cast<int>(error.status);
}

}  // namespace epochfs
