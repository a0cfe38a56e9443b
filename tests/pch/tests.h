// What nearly every test includes of others, compiled once. Only for speed: each file still
// includes what it uses.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "journal/base/pch/common.h"
