// Small values and system calls that every folder shares: identities and handles,
// UUIDs, escaping, whole-file input and output, durable replacement.
#include "journal/base/unix.h"

#include <sys/xattr.h>

#include <filesystem>
#include <set>
#include <unordered_set>

#include "journal/base/directory.h"
#include "journal/base/regular_file.h"
#include "journal/base/storage.h"
#include "journal/preimages/attributes.h"

#include <capnp/serialize.h>

#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/temporary_directory.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

// ---- Uuid ----

TEST(Uuid, ComesBackFromItsText) {
  for (int i = 0; i < 100; ++i) {
    const Uuid id = Uuid::random();
    const std::string text = id.to_string();
    Uuid back;
    ASSERT_TRUE(Uuid::parse(text, back)) << text;
    EXPECT_EQ(back, id);
    EXPECT_EQ(text[14], '4') << "version 4";
    EXPECT_NE(std::string("89ab").find(text[19]), std::string::npos) << "variant of RFC 9562";
  }
}

TEST(Uuid, OtherFormsAreRefused) {
  Uuid out;
  const std::string good = "01234567-89ab-4def-8123-456789abcdef";
  ASSERT_TRUE(Uuid::parse(good, out));
  EXPECT_EQ(out.to_string(), good);
  for (std::string bad : {std::string(), good + "0", good.substr(1), std::string("{") + good,
                          std::string("01234567-89AB-4def-8123-456789abcdef"),
                          std::string("0123456789ab-4def-8123-456789abcdef-"),
                          std::string("01234567_89ab-4def-8123-456789abcdef"),
                          std::string("g1234567-89ab-4def-8123-456789abcdef")}) {
    EXPECT_FALSE(Uuid::parse(bad, out)) << bad;
  }
}

TEST(FileIdentity, HashesTellNeighboursApart) {
  std::unordered_set<size_t> hashes;
  for (uint64_t inode = 1; inode <= 1000; ++inode) {
    for (uint64_t birth : {0ull, 1ull, 1'700'000'000'000'000'000ull}) {
      hashes.insert(std::hash<FileId>()({inode, birth}));
    }
  }
  EXPECT_GT(hashes.size(), 2990u);
}

// ---- escape ----

TEST(Escape, PrintableTextStays) {
  for (const char* text :
       {"", "plain name.txt", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8c\x8d"}) {
    EXPECT_EQ(escape(text), text);
    EXPECT_TRUE(is_utf8(text));
  }
}

TEST(Escape, ControlsAndBackslashAreShown) {
  EXPECT_EQ(escape("a\nb\tc\\d"), "a\\nb\\tc\\\\d");
  EXPECT_EQ(escape("\x01\x1b[31m\x7f"), "\\x01\\x1b[31m\\x7f");
  EXPECT_EQ(escape(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(escape("\xc2\x9b"), "\\xc2\\x9b") << "a terminal's control sequence of one code point";
}

TEST(Escape, BytesThatAreNotUtf8AreShown) {
  for (const char* bad : {"\xff", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\x80"}) {
    EXPECT_FALSE(is_utf8(bad));
    for (char c : escape(bad)) EXPECT_LT(static_cast<unsigned char>(c), 0x80);
  }
  EXPECT_EQ(escape("a\xff"
                   "b"),
            "a\\xffb");
  EXPECT_EQ(escape("\xe2\x82"), "\\xe2\\x82");
}

TEST(Escape, DifferentBytesNeverLookTheSame) {
  Random random;
  std::map<std::string, std::string> seen;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes(random.below(4), '\0');
    for (char& c : bytes) c = "\\nx0a\n\xc3\xbc\xff\x01"[random.below(10)];
    auto [at, inserted] = seen.emplace(escape(bytes), bytes);
    EXPECT_EQ(at->second, bytes);
  }
}

// ---- files ----

class Files : public ::testing::Test {
 protected:
  TemporaryDirectory dir_;
  UniqueFd fd_ = must(open_directory(dir_.path()));
};

TEST_F(Files, DescriptorClosesItselfOnce) {
  int raw;
  {
    UniqueFd a(::open(dir_.path().c_str(), O_RDONLY | O_CLOEXEC));
    raw = a.get();
    UniqueFd b = std::move(a);
    EXPECT_FALSE(a);
    EXPECT_EQ(b.get(), raw);
    b = std::move(b);
    EXPECT_EQ(b.get(), raw) << "moving to itself keeps it";
  }
  EXPECT_EQ(::fcntl(raw, F_GETFD), -1);
}

TEST_F(Files, SmallFileIsReadWholeAndALongerOneRefused) {
  write_file(dir_ / "f", "12345");
  EXPECT_EQ(must(read_file(fd_.get(), "f", 5)), "12345");
  EXPECT_EQ(must(read_file(fd_.get(), "f", 100)), "12345");
  EXPECT_EQ(read_file(fd_.get(), "f", 4).error().code, EFBIG);
  EXPECT_EQ(read_file(fd_.get(), "none", 4).error().code, ENOENT);
}

TEST_F(Files, WhatIsNoRegularFileIsNotOpened) {
  write_file(dir_ / "f", "12345");
  std::filesystem::create_symlink("f", dir_ / "link");
  std::filesystem::create_directory(dir_ / "folder");
  std::filesystem::create_symlink("folder", dir_ / "folder link");
  ASSERT_EQ(::mkfifo((dir_ / "fifo").c_str(), 0600), 0);
  for (const char* name : {"link", "folder", "fifo", "folder link"}) {
    const auto opened = open_regular(fd_.get(), name);
    ASSERT_FALSE(opened) << name;
    EXPECT_EQ(opened.error().status, ExitStatus::kCorrupt) << name;
    EXPECT_NE(opened.error().message().find("instead of a regular file"), std::string::npos);
    EXPECT_FALSE(read_file(fd_.get(), name, 100)) << name;
  }
  for (const char* name : {"folder link", "fifo", "f"}) {
    EXPECT_EQ(open_directory(fd_.get(), name).error().status, ExitStatus::kCorrupt) << name;
  }
  EXPECT_OK(open_directory(fd_.get(), "folder"));
  EXPECT_EQ(open_regular(fd_.get(), "none").error().code, ENOENT);
}

TEST_F(Files, ReadingEndsAtTheEndOfTheFile) {
  write_file(dir_ / "f", "12345");
  UniqueFd f(::open((dir_ / "f").c_str(), O_RDWR | O_CLOEXEC));
  char buffer[10];
  EXPECT_EQ(must(pread_full(f.get(), buffer, 10, 2, "f")), 3u);
  EXPECT_EQ(must(pread_full(f.get(), buffer, 10, 99, "f")), 0u);
  ASSERT_OK(pwrite_full(f.get(), "abc", 3, 4, "f"));
  EXPECT_EQ(read_whole_file(dir_ / "f"), "1234abc");
  EXPECT_EQ(pread_full(-1, buffer, 1, 0, "f").error().message(), "read f: Bad file descriptor");
  EXPECT_EQ(pwrite_full(-1, buffer, 1, 0, "f").error().message(), "write f: Bad file descriptor");
}

TEST_F(Files, DirectoryIsReadWholeAndMoreThanOnce) {
  const std::set<std::string> all = {"a", ".hidden", "b"};
  for (const auto& name : all) write_file(dir_ / name, "");
  UniqueFd dir = must(open_directory(dir_.path()));
  for (int times = 0; times < 2; ++times) {
    std::multiset<std::string> seen;
    EXPECT_OK(for_each_entry(dir.get(), "it", [&](const char* name) { seen.insert(name); }));
    EXPECT_EQ(seen, std::multiset<std::string>(all.begin(), all.end()));
  }
}

TEST_F(Files, FirstErrorEndsTheReadingOfADirectory) {
  for (const char* name : {"a", "b", "c"}) write_file(dir_ / name, "");
  UniqueFd dir = must(open_directory(dir_.path()));
  int calls = 0;
  const auto outcome = for_each_entry(dir.get(), "it", [&](const char*) -> Result<void> {
    ++calls;
    return fail("stop", EPERM);
  });
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, EPERM);
  EXPECT_EQ(calls, 1);
}

TEST_F(Files, WhatIsNoDirectoryIsNamed) {
  write_file(dir_ / "file", "");
  UniqueFd dir = must(open_directory(dir_.path()));
  EXPECT_EQ(open_directory(dir.get(), "nowhere").error().code, ENOENT);
  EXPECT_EQ(open_directory(dir.get(), "file").error().code, ENOTDIR);
  UniqueFd file(::openat(dir.get(), "file", O_RDONLY | O_CLOEXEC));
  const auto outcome = for_each_entry(file.get(), "the folder", [](const char*) {});
  ASSERT_FALSE(outcome);
  EXPECT_NE(outcome.error().message().find("directory the folder"), std::string::npos);
}

TEST_F(Files, ReplacementIsWholeAndPrivate) {
  ASSERT_OK(Storage::system().replace_file("test", fd_.get(), "f", "first"));
  ASSERT_OK(Storage::system().replace_file("test", fd_.get(), "f", "2"));
  EXPECT_EQ(read_whole_file(dir_ / "f"), "2");
  struct stat st;
  ASSERT_EQ(::stat((dir_ / "f").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "f.new"));
  EXPECT_OK(Storage::system().remove_file("test", fd_.get(), "f"));
  EXPECT_OK(Storage::system().remove_file("test", fd_.get(), "f"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "f"));
}

TEST_F(Files, IdentityAndHandleFollowTheFileNotTheName) {
  write_file(dir_ / "a", "one");
  struct statx st;
  FileHandle handle, moved;
  ASSERT_EQ(identify(fd_.get(), "a", st, handle), 0);
  const FileId id = file_id(st);
  EXPECT_TRUE(id);
  EXPECT_NE(id.birth_ns, 0u);
  std::filesystem::rename(dir_ / "a", dir_ / "b");
  ASSERT_EQ(identify(fd_.get(), "b", st, moved), 0);
  EXPECT_EQ(file_id(st), id);
  EXPECT_EQ(moved, handle);
  EXPECT_EQ(identify(fd_.get(), "a", st, moved), -ENOENT);
  // The file itself, by an open descriptor; and the link, not what it leads to.
  UniqueFd f(::open((dir_ / "b").c_str(), O_PATH | O_CLOEXEC));
  ASSERT_EQ(identify(f.get(), "", st, moved), 0);
  EXPECT_EQ(moved, handle);
  std::filesystem::create_symlink("b", dir_ / "link");
  ASSERT_EQ(identify(fd_.get(), "link", st, moved), 0);
  EXPECT_TRUE(S_ISLNK(st.stx_mode));
  EXPECT_NE(file_id(st), id);
}

TEST_F(Files, HandleOpensUntilTheFileIsGone) {
  write_file(dir_ / "a", "one");
  struct statx st;
  FileHandle handle;
  ASSERT_EQ(identify(fd_.get(), "a", st, handle), 0);
  UniqueFd f(open_handle(fd_.get(), handle, O_RDONLY));
  if (f.get() == -EPERM) GTEST_SKIP() << "needs CAP_DAC_READ_SEARCH";
  ASSERT_TRUE(f);
  f.reset();
  std::filesystem::remove(dir_ / "a");
  // While the kernel is still tearing the inode down it can answer ENOMEM.
  int gone = -ENOMEM;
  for (int tries = 0; tries < 1000 && gone == -ENOMEM; ++tries) {
    gone = open_handle(fd_.get(), handle, O_RDONLY);
  }
  EXPECT_EQ(gone, -ESTALE);
}

// ---- attributes ----

struct Captured {
  kj::Array<capnp::word> words;
  std::unique_ptr<capnp::FlatArrayMessageReader> message;
  rpc::Attributes::Reader root;

  explicit Captured(int fd) {
    const std::string bytes = must(capture_attributes(fd));
    words = kj::heapArray<capnp::word>(bytes.size() / sizeof(capnp::word));
    std::memcpy(words.begin(), bytes.data(), bytes.size());
    message = std::make_unique<capnp::FlatArrayMessageReader>(words);
    root = message->getRoot<rpc::Attributes>();
  }
};

TEST_F(Files, AttributesAreCapturedWithXattrs) {
  write_file(dir_ / "f", "12345");
  ASSERT_EQ(::chmod((dir_ / "f").c_str(), 02640), 0);
  if (::setxattr((dir_ / "f").c_str(), "user.one", "v\0w", 3, 0) != 0) GTEST_SKIP() << "no xattrs";
  ASSERT_EQ(::setxattr((dir_ / "f").c_str(), "user.empty", "", 0, 0), 0);
  UniqueFd f(::open((dir_ / "f").c_str(), O_PATH | O_CLOEXEC));
  Captured got(f.get());
  EXPECT_EQ(got.root.getMode(), uint32_t(S_IFREG | 02640));
  EXPECT_EQ(got.root.getSize(), 5u);
  EXPECT_EQ(got.root.getLinks(), 1u);
  EXPECT_EQ(got.root.getUid(), ::getuid());
  std::map<std::string, std::string> xattrs;
  for (auto x : got.root.getXattrs()) {
    xattrs[std::string(x.getName().asChars().begin(), x.getName().size())] =
        std::string(x.getValue().asChars().begin(), x.getValue().size());
  }
  EXPECT_EQ(xattrs["user.one"], std::string("v\0w", 3));
  EXPECT_TRUE(xattrs.count("user.empty"));
}

TEST_F(Files, AttributesOfALinkAreItsOwn) {
  const std::string target(4000, 'x');
  std::filesystem::create_symlink(target, dir_ / "link");
  UniqueFd f(::open((dir_ / "link").c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  Captured got(f.get());
  EXPECT_TRUE(S_ISLNK(got.root.getMode()));
  auto captured = got.root.getSymlinkTarget();
  EXPECT_EQ(std::string(captured.asChars().begin(), captured.size()), target);
}

}  // namespace
}  // namespace epochfs::journal
