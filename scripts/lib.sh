# shellcheck shell=bash
# What the scripts here share: messages, where things are, and the build. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Outside the repository, so that a fresh clone finds it, and outside /usr, so that the system's own stays as it is.
deps=$(realpath -m -- "${EPOCHFS_DEPS:-/opt/epochfs-deps}")

# Without the first, ccache passes by what uses precompiled headers. The second lets build folders share.
export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS:-pch_defines,time_macros} CCACHE_NOHASHDIR=1

# Progress and complaints go to stderr: stdout is for results.
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
warn() { say "warning: $*"; }
die() {
  say "error: $*"
  exit 1
}

# Runs a command whose output only matters when it fails.
quietly() {
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 || status=$?
  ((status == 0)) || tail -n 40 "$log" >&2
  rm -f "$log"
  return "$status"
}

# configure_and_build DIR [meson options]: configures DIR, then builds everything in it.
configure_and_build() {
  configure "$@"
  build "$1"
}

# configure DIR [meson options]: sets DIR up for the repository's root. What the caller gives wins over the defaults.
# Meson takes ccache by itself where it is installed.
configure() {
  local dir=$1 werror=false fuse_path='' wanted
  shift
  [[ ${CI:-} == true ]] && werror=true
  [[ ${system_libfuse:-} == yes ]] || fuse_path=$deps/libfuse/lib/pkgconfig
  local options=("-Dpkg_config_path=$fuse_path" -Dbuildtype=debugoptimized "-Dwerror=$werror" "$@")

  # The libfuse stamp is part of what was configured: an upgraded library must be looked up anew.
  wanted=$(printf '%s\n' "${options[@]}" && cat "$deps/libfuse/stamp" 2>/dev/null) || true
  if [[ ! -f $dir/build.ninja ]]; then
    say "configuring $dir"
    quietly meson setup "$dir" "$root" "${options[@]}" || die "meson could not configure $dir; its last lines are above"
  elif [[ $wanted != "$(cat "$dir/configured-with" 2>/dev/null)" ]]; then
    say "configuring $dir again, since its options changed"
    quietly meson setup --reconfigure "$dir" "$root" "${options[@]}" ||
      die "meson could not configure $dir again; remove it and try once more"
  fi
  printf '%s\n' "$wanted" >"$dir/configured-with"
}

# build DIR [TARGET...]: builds the targets, or everything.
build() {
  local dir=$1
  shift
  say "building ${*:-everything} in $dir"
  ninja -C "$dir" --quiet "$@" >&2 || die "building in $dir failed; the compiler's messages are above"
}
