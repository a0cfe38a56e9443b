// Volume folder: is a journal found for its directory, and no other? Its lock,
// the state directory around it, and the cursors inside it.
#include "journal/volume/volume.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "journal/volume/cursors.h"
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/volumes.h"

namespace epochfs::journal {
namespace {

using namespace epochfs::testing;

class VolumeTest : public ::testing::Test {
 protected:
  Result<Volume> create(const std::string& name, VolumeInfo info = volume_info()) {
    return Volume::create(Storage::system(), dir_ / name, info);
  }
  std::string file() const { return dir_ / "v/volume"; }

  TemporaryDirectory dir_;
};

TEST_F(VolumeTest, ComesBackAsItWasMade) {
  const VolumeInfo info = volume_info(1 << 20);
  must(create("v", info));
  Volume v = must(Volume::open(dir_ / "v"));
  EXPECT_EQ(v.info().lineage, info.lineage);
  EXPECT_EQ(v.info().identity, info.identity);
  EXPECT_EQ(v.info().created_ns, info.created_ns);
  EXPECT_EQ(v.info().segment_bytes, info.segment_bytes);
  EXPECT_EQ(v.info().backing_path, info.backing_path);
  EXPECT_EQ(v.path(), dir_ / "v");
}

TEST_F(VolumeTest, PathOfAnyLengthComesBack) {
  VolumeInfo info = volume_info();
  info.backing_path = std::string(4000, '/') + "\n\xff";
  must(create("v", info));
  EXPECT_EQ(must(Volume::open(dir_ / "v")).info().backing_path, info.backing_path);
}

TEST_F(VolumeTest, ParentsAreMade) {
  must(create("a/b/c/v"));
  EXPECT_OK(Volume::open(dir_ / "a/b/c/v"));
  struct stat st;
  ASSERT_EQ(::stat((dir_ / "a/b").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700u);
}

TEST_F(VolumeTest, ExistingJournalIsNotOverwritten) {
  must(create("v"));
  const std::string before = read_whole_file(file());
  auto again = create("v");
  ASSERT_FALSE(again);
  EXPECT_NE(again.error().message().find("not empty"), std::string::npos);
  EXPECT_EQ(read_whole_file(file()), before);
}

TEST_F(VolumeTest, FolderThatHoldsSomethingElseIsRefused) {
  std::filesystem::create_directories(dir_ / "home");
  write_file(dir_ / "home/letters", "");
  ASSERT_FALSE(create("home"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "home/segments"));
}

TEST_F(VolumeTest, MakingThatWasCutShortIsDoneAgain) {
  std::filesystem::create_directories(dir_ / "v/segments");
  write_file(dir_ / "v/volume.new", "half");
  EXPECT_OK(create("v"));
}

TEST_F(VolumeTest, MissingFolderIsNamed) {
  auto result = Volume::open(dir_ / "nowhere");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ENOENT);
  EXPECT_NE(result.error().message().find(dir_ / "nowhere"), std::string::npos);
}

TEST_F(VolumeTest, NewerVersionIsRefusedWithTheRemedy) {
  must(create("v"));
  poke(file(), 8, std::string("\2\0\0\0", 4));
  auto result = Volume::open(dir_ / "v");
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find("format version 2"), std::string::npos);
  EXPECT_NE(result.error().message().find("use a newer epochfs"), std::string::npos);
}

TEST_F(VolumeTest, EveryFlippedBitIsRefused) {
  must(create("v"));
  const std::string bytes = read_whole_file(file());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = char(flipped[bit / 8] ^ 1 << (bit % 8));
    write_file(file(), flipped);
    EXPECT_FALSE(Volume::open(dir_ / "v")) << "bit " << bit;
  }
}

TEST_F(VolumeTest, EveryCutIsCorrupt) {
  must(create("v"));
  const std::string bytes = read_whole_file(file());
  for (size_t size = 0; size < bytes.size(); ++size) {
    write_file(file(), bytes.substr(0, size));
    auto result = Volume::open(dir_ / "v");
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().status, ExitStatus::kCorrupt) << size;
  }
  write_file(file(), bytes + "x");
  EXPECT_FALSE(Volume::open(dir_ / "v"));
}

TEST_F(VolumeTest, SegmentSizeOutOfRangeIsRefused) {
  for (uint64_t size : {uint64_t{0}, uint64_t{4096}, uint64_t{(64 << 10) + 1}, uint64_t{2} << 30}) {
    std::filesystem::remove_all(dir_ / "v");
    EXPECT_FALSE(create("v", volume_info(size))) << size;
  }
}

// ---- lock ----

// A process that holds the lock of the volume until the object goes.
class Holder {
 public:
  explicit Holder(const std::string& path) {
    int ready[2];
    if (::pipe2(ready, O_CLOEXEC) != 0) std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      Volume v = must(Volume::open(path));
      if (!must(v.lock())) ::_exit(1);
      if (::write(ready[1], "!", 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    char c;
    ::close(ready[1]);
    if (::read(ready[0], &c, 1) != 1) std::abort();
    ::close(ready[0]);
  }
  ~Holder() { end(); }
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

TEST_F(VolumeTest, SecondLockIsRefused) {
  Volume first = must(create("v"));
  EXPECT_TRUE(must(first.lock()));
  Volume second = must(Volume::open(dir_ / "v"));
  EXPECT_FALSE(must(second.lock()));
  EXPECT_EQ(must(second.holder()), ::getpid());
}

TEST_F(VolumeTest, LockOfAnotherProcessIsRefusedAndFallsWithIt) {
  Volume v = must(create("v"));
  Holder holder(dir_ / "v");
  EXPECT_FALSE(must(v.lock()));
  EXPECT_EQ(must(v.holder()), holder.pid());
  holder.end();
  EXPECT_TRUE(must(v.lock()));
}

TEST_F(VolumeTest, LockFallsWithTheVolume) {
  must(create("v"));
  { EXPECT_TRUE(must(must(Volume::open(dir_ / "v")).lock())); }
  Volume v = must(Volume::open(dir_ / "v"));
  EXPECT_TRUE(must(v.lock()));
  Volume moved = std::move(v);
  EXPECT_FALSE(must(must(Volume::open(dir_ / "v")).lock())) << "moving keeps it";
}

TEST_F(VolumeTest, WaitingReturnsWhenTheHolderIsGone) {
  Volume v = must(create("v"));
  EXPECT_TRUE(must(v.wait_unlocked(0))) << "never locked";
  Holder holder(dir_ / "v");
  EXPECT_FALSE(must(v.wait_unlocked(0)));
  const pid_t killer = ::fork();
  if (killer == 0) {
    ::kill(holder.pid(), SIGKILL);
    ::_exit(0);
  }
  EXPECT_TRUE(must(v.wait_unlocked(60'000)));
  ::waitpid(killer, nullptr, 0);
}

// Whoever waits for an unmount must never be what stops the next mount.
TEST_F(VolumeTest, AskingDoesNotTakeTheLock) {
  Volume asking = must(create("v"));
  Volume locking = must(Volume::open(dir_ / "v"));
  UniqueFd fd(::open((dir_ / "v/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  EXPECT_TRUE(must(asking.wait_unlocked(0)));
  EXPECT_TRUE(must(locking.lock()));
  EXPECT_FALSE(must(asking.wait_unlocked(0)));
}

TEST_F(VolumeTest, HolderOfAFileWithoutANumberIsUnknown) {
  Volume v = must(create("v"));
  for (const char* text : {"", "nobody", "-1", "0"}) {
    write_file(dir_ / "v/lock", text);
    EXPECT_EQ(must(v.holder()), 0) << text;
  }
}

// ---- the state directory ----

TEST_F(VolumeTest, StateDirectoryIsMadeAndRecognized) {
  ASSERT_OK(prepare_state_dir(Storage::system(), dir_ / "state"));
  EXPECT_EQ(read_whole_file(dir_ / "state/format"), "epochfs state 1\n");
  struct stat st;
  ASSERT_EQ(::stat((dir_ / "state").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700u);
  EXPECT_OK(prepare_state_dir(Storage::system(), dir_ / "state"));
}

TEST_F(VolumeTest, NewerStateIsRefusedAndLeftAlone) {
  std::filesystem::create_directories(dir_ / "state");
  write_file(dir_ / "state/format", "epochfs state 2\n");
  auto result = prepare_state_dir(Storage::system(), dir_ / "state");
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find("format version 2"), std::string::npos);
  EXPECT_NE(result.error().message().find("--state"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "state/volumes"));
}

TEST_F(VolumeTest, ForeignStateDirectoryIsRefused) {
  std::filesystem::create_directories(dir_ / "state");
  for (const char* text : {"", "something else", "epochfs state x", "epochfs state 0\n"}) {
    write_file(dir_ / "state/format", text);
    EXPECT_FALSE(prepare_state_dir(Storage::system(), dir_ / "state")) << text;
  }
  write_file(dir_ / "state/format", std::string(1000, ' '));
  EXPECT_FALSE(prepare_state_dir(Storage::system(), dir_ / "state"));
}

TEST_F(VolumeTest, FileInPlaceOfTheStateDirectoryIsNamed) {
  write_file(dir_ / "state", "");
  auto result = prepare_state_dir(Storage::system(), dir_ / "state");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ENOTDIR);
}

TEST_F(VolumeTest, VolumeIsFoundByTheIdentityOfItsDirectory) {
  const std::string state = dir_ / "state";
  ASSERT_OK(prepare_state_dir(Storage::system(), state));
  VolumeInfo one = volume_info(), two = volume_info();
  two.identity.root.inode = 3;
  must(Volume::create(Storage::system(), state + "/volumes/" + one.lineage.to_string(), one));
  must(Volume::create(Storage::system(), state + "/volumes/" + two.lineage.to_string(), two));
  EXPECT_EQ(must(find_volume(state, one.identity))->info().lineage, one.lineage);
  EXPECT_EQ(must(find_volume(state, two.identity))->info().lineage, two.lineage);
  VolumeIdentity other = one.identity;
  other.root.birth_ns = 5;  // the inode number was used again
  EXPECT_FALSE(must(find_volume(state, other)));
}

TEST_F(VolumeTest, OtherFoldersAmongTheVolumesAreIgnored) {
  const std::string state = dir_ / "state";
  ASSERT_OK(prepare_state_dir(Storage::system(), state));
  std::filesystem::create_directories(state + "/volumes/lost+found");
  // Its making was cut short.
  std::filesystem::create_directories(state + "/volumes/" + Uuid::random().to_string());
  EXPECT_FALSE(must(find_volume(state, volume_info().identity)));
}

TEST_F(VolumeTest, DamagedVolumeAmongTheVolumesIsNamed) {
  const std::string state = dir_ / "state";
  ASSERT_OK(prepare_state_dir(Storage::system(), state));
  const VolumeInfo info = volume_info();
  const std::string path = state + "/volumes/" + info.lineage.to_string();
  must(Volume::create(Storage::system(), path, info));
  poke(path + "/volume", 30, "damage");
  auto result = find_volume(state, info.identity);
  ASSERT_FALSE(result) << "it may be the one that is looked for";
  EXPECT_NE(result.error().message().find(path), std::string::npos);
}

TEST_F(VolumeTest, DirectoryHasOneIdentityWhateverItsPath) {
  std::filesystem::create_directories(dir_ / "data");
  const VolumeIdentity before = must(identify_volume(must(open_directory(dir_ / "data")).get()));
  std::filesystem::rename(dir_ / "data", dir_ / "moved");
  EXPECT_EQ(must(identify_volume(must(open_directory(dir_ / "moved")).get())), before);
  std::filesystem::create_directories(dir_ / "data");
  EXPECT_NE(must(identify_volume(must(open_directory(dir_ / "data")).get())), before);
}

TEST_F(VolumeTest, JournalFolderIsItsOwnJournalPath) {
  must(create("v"));
  EXPECT_EQ(must(journal_path_of(dir_ / "v")), dir_ / "v");
  auto other = journal_path_of(dir_.path());
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().message().find("epochfs mount"), std::string::npos);
  EXPECT_EQ(journal_path_of(dir_ / "nowhere").error().code, ENOENT);
}

// ---- cursors ----

class Cursors : public VolumeTest {
 protected:
  Volume volume_ = must(create("v"));
};

TEST_F(Cursors, NoneBeforeTheFirstIsWritten) {
  EXPECT_TRUE(must(read_cursors(volume_.dir())).empty());
  EXPECT_EQ(must(read_cursor(volume_.dir(), "ab")), std::nullopt);
}

TEST_F(Cursors, ComeBackForEachRelationship) {
  ASSERT_OK(write_cursor(Storage::system(), volume_.dir(), "ab12", {EpochId{7}}));
  ASSERT_OK(write_cursor(Storage::system(), volume_.dir(), "cd34", {EpochId{UINT64_MAX}}));
  ASSERT_OK(write_cursor(Storage::system(), volume_.dir(), "ab12", {EpochId{8}}));
  EXPECT_EQ(must(read_cursor(volume_.dir(), "ab12")), Cursor{EpochId{8}});
  CursorMap expected = {{"ab12", {EpochId{8}}}, {"cd34", {EpochId{UINT64_MAX}}}};
  EXPECT_EQ(must(read_cursors(volume_.dir())), expected);
}

TEST_F(Cursors, OfAWalkSaysSo) {
  ASSERT_OK(write_cursor(Storage::system(), volume_.dir(), "ab", {EpochId{7}, true}));
  ASSERT_OK(write_cursor(Storage::system(), volume_.dir(), "cd", {EpochId{5}}));
  auto all = must(read_cursors(volume_.dir()));
  EXPECT_EQ(all.at("ab"), (Cursor{EpochId{7}, true}));
  EXPECT_EQ(oldest_epoch(all), EpochId{5});
  EXPECT_EQ(oldest_walk(all), EpochId{7});
  EXPECT_EQ(oldest_epoch({}), std::nullopt);
  EXPECT_EQ(oldest_walk({{"ab", {EpochId{7}}}}), std::nullopt);
}

TEST_F(Cursors, RemovedOneIsGoneAndRemovingAgainIsNoError) {
  ASSERT_OK(write_cursor(Storage::system(), volume_.dir(), "ab", {EpochId{7}}));
  EXPECT_OK(remove_cursor(Storage::system(), volume_.dir(), "ab"));
  EXPECT_OK(remove_cursor(Storage::system(), volume_.dir(), "ab"));
  EXPECT_TRUE(must(read_cursors(volume_.dir())).empty());
}

TEST_F(Cursors, TemporaryFilesAreNone) {
  write_file(dir_ / "v/cursors/ab.new", "5\n");
  write_file(dir_ / "v/cursors/Upper", "5\n");
  EXPECT_TRUE(must(read_cursors(volume_.dir())).empty());
}

TEST_F(Cursors, DamagedOneIsNamed) {
  for (const char* text : {"", "x\n", "12", "12x\n", "-1\n", "99999999999999999999\n", "1\n2\n",
                           "1 walk", "1 walks\n"}) {
    write_file(dir_ / "v/cursors/ab", text);
    auto result = read_cursor(volume_.dir(), "ab");
    ASSERT_FALSE(result) << text;
    EXPECT_EQ(result.error().status, ExitStatus::kCorrupt);
    EXPECT_NE(result.error().message().find("relationship ab"), std::string::npos);
    EXPECT_FALSE(read_cursors(volume_.dir()));
  }
}

TEST_F(Cursors, LargestEpochComesBackAndALargerOneIsRefused) {
  must(write_cursor(Storage::system(), volume_.dir(), "ab", {EpochId{UINT64_MAX}}));
  EXPECT_EQ(must(read_cursor(volume_.dir(), "ab")), Cursor{EpochId{UINT64_MAX}});
  write_file(dir_ / "v/cursors/ab", "18446744073709551616\n");
  EXPECT_FALSE(read_cursor(volume_.dir(), "ab"));
}

TEST_F(Cursors, EveryCutIsCorrupt) {
  must(write_cursor(Storage::system(), volume_.dir(), "ab", {EpochId{123456}}));
  for (size_t size = 0; size <= 6; ++size) {
    write_file(dir_ / "v/cursors/ab", std::string("123456\n").substr(0, size));
    auto result = read_cursor(volume_.dir(), "ab");
    ASSERT_FALSE(result) << size;
    EXPECT_EQ(result.error().status, ExitStatus::kCorrupt);
  }
}

// A cursor has no checksum: a flipped bit may make another number of it, and nothing else.
TEST_F(Cursors, FlippedBitIsANumberOrCorrupt) {
  const std::string whole = "123456\n";
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = char(flipped[bit / 8] ^ 1 << (bit % 8));
    write_file(dir_ / "v/cursors/ab", flipped);
    auto result = read_cursor(volume_.dir(), "ab");
    const bool number = flipped.find_first_not_of("0123456789") == 6 && flipped[6] == '\n';
    EXPECT_EQ(result.has_value(), number) << flipped;
  }
}

TEST_F(Cursors, NameThatIsNoIdAborts) {
  EXPECT_DEATH((void)write_cursor(Storage::system(), volume_.dir(), "../volume", {EpochId{1}}),
               "broken invariant");
}

}  // namespace
}  // namespace epochfs::journal
