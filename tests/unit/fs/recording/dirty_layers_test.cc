// Dirty layers: which of them are merged, and which have to stay apart?
#include <algorithm>

#include "tests/unit/fs/recording/pins_support.h"

namespace epochfs::fs {
namespace {

using namespace epochfs::testing;

using DirtyLayersTest = PinsTest;

void seal_one(Pins& pins, uint64_t epoch) {
  pins.dirty(FileId{epoch, 1}, {0, epoch});
  pins.seal(EpochId{epoch});
}

TEST_F(DirtyLayersTest, LayersThatNoCursorSeparatesAreMerged) {
  pins_->restore({}, {}, EpochId{0});
  for (uint64_t e = 1; e <= 10; ++e) seal_one(*pins_, e);
  EXPECT_EQ(pins_->layers(), 10u);
  pins_->cursors_are({EpochId{0}});
  EXPECT_EQ(pins_->layers(), 1u);
  for (uint64_t e = 11; e <= 20; ++e) seal_one(*pins_, e);
  pins_->cursors_are({EpochId{0}, EpochId{15}});
  EXPECT_EQ(pins_->layers(), 2u);  // up to 15, and after it
  pins_->cursors_are({EpochId{15}});
  EXPECT_EQ(pins_->layers(), 1u);
  pins_->cursors_are({EpochId{20}});
  EXPECT_EQ(pins_->layers(), 0u);
}

TEST_F(DirtyLayersTest, LayersThatACursorIsInsideOfStay) {
  pins_->restore({}, {}, EpochId{0});
  for (uint64_t e = 1; e <= 4; ++e) seal_one(*pins_, e);
  pins_->cursors_are({EpochId{0}});
  ASSERT_EQ(pins_->layers(), 1u);
  pins_->cursors_are({EpochId{2}});
  EXPECT_EQ(pins_->layers(), 1u);
}

TEST_F(DirtyLayersTest, ALayerWhereAPinEndsIsNotMergedOn) {
  pins_->restore({}, {}, EpochId{0});
  pins_->cursors_are({EpochId{0}});
  seal_one(*pins_, 1);
  auto pin = seal_and_pin(0, 2);
  seal_one(*pins_, 3);
  seal_one(*pins_, 4);
  pins_->compact();
  EXPECT_EQ(pins_->layers(), 2u);
  pins_->unpin(pin);
  EXPECT_EQ(pins_->layers(), 1u);
}

TEST_F(DirtyLayersTest, ASmallLayerBesideALargeOneWaits) {
  pins_->restore({}, {}, EpochId{0});
  for (uint64_t i = 1; i <= 20'000; ++i) pins_->dirty(FileId{i, 1}, {0, 1});
  pins_->seal(EpochId{1});
  pins_->cursors_are({EpochId{0}});
  size_t most = 0;
  for (uint64_t e = 2; e <= 200; ++e) {
    for (uint64_t i = 1; i <= 100; ++i) pins_->dirty(FileId{e * 1'000'000 + i, 1}, {0, 1});
    pins_->seal(EpochId{e});
    pins_->compact();
    most = std::max(most, pins_->layers());
  }
  EXPECT_LE(most, 8u);
  EXPECT_GE(most, 2u);
}

}  // namespace
}  // namespace epochfs::fs
