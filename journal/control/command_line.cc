#include "journal/control/command_line.h"

#include <fmt/format.h>

#include <boost/algorithm/string/trim_all.hpp>
#include <charconv>
#include <iostream>

namespace epochfs {

namespace po = boost::program_options;

Result<Parsed> parse_command(const CommandHelp& help, const po::options_description& options,
                             const std::vector<std::string>& positional, const Arguments& arguments,
                             bool last_takes_all) {
  po::options_description all("Options");
  all.add(options);
  all.add_options()("help,h", "print this help");

  po::positional_options_description bare;
  for (size_t i = 0; i < positional.size(); ++i) {
    bool last = i + 1 == positional.size();
    bare.add(positional[i].c_str(), last && last_takes_all ? -1 : 1);
  }

  // An error is one line.
  const std::string usage = boost::algorithm::trim_fill_copy(help.usage, " ");
  Parsed parsed;
  try {
    using Style = po::command_line_style::style_t;
    po::store(po::command_line_parser(arguments)
                  .options(all)
                  .positional(bare)
                  .style(Style(po::command_line_style::unix_style &
                               ~po::command_line_style::allow_guessing))
                  .run(),
              parsed.values);
    if (parsed.values.count("help")) {
      // Hidden options have no description; they are the bare arguments.
      po::options_description shown("Options");
      for (const auto& option : all.options()) {
        if (!option->description().empty()) shown.add(option);
      }
      std::cout << "usage: " << help.usage << "\n\n" << help.description << "\n\n" << shown;
      parsed.help_shown = true;
      return parsed;
    }
    po::notify(parsed.values);
  } catch (const po::too_many_positional_options_error&) {
    return fail(fmt::format("too many arguments; usage: {}", usage), 0, ExitStatus::kUsage);
  } catch (const po::required_option& e) {
    std::string name = e.get_option_name();
    for (const auto& p : positional) {
      // A missing bare argument is named as the usage line names it.
      if (name == "--" + p) {
        return fail(fmt::format("missing argument; usage: {}", usage), 0, ExitStatus::kUsage);
      }
    }
    return fail(fmt::format("missing {}; usage: {}", name, usage), 0, ExitStatus::kUsage);
  } catch (const po::error& e) {
    return fail(fmt::format("{}; usage: {}", e.what(), usage), 0, ExitStatus::kUsage);
  }
  return parsed;
}

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

int report(const Error& error) {
  std::cerr << "epochfs: " << error.message() << std::endl;
  const bool refused = error.code == EACCES || error.code == EPERM;
  if (refused && error.status == ExitStatus::kFailed) {
    return static_cast<int>(ExitStatus::kNotAuthorized);
  }
  return static_cast<int>(error.status);
}

}  // namespace epochfs
