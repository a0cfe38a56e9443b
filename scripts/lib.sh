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

# quietly COMMAND...: shows the end of the command's output if it fails. While the command runs, a line now and then
# tells the last thing that it printed.
quietly() {
  local log status=0 telling
  log=$(mktemp)
  start_telling last_line "$log"
  "$@" >"$log" 2>&1 || status=$?
  stop_telling
  ((status == 0)) || tail -n 40 "$log" >&2
  rm -f "$log"
  return "$status"
}
last_line() { tail -c 300 "$1" | tr '\r' '\n' | awk 'NF { last = $0 } END { print substr(last, 1, 90) }'; }

# Seconds between two lines of progress.
beat=20
telling=''

# start_telling COMMAND...: until stop_telling, prints every so often what the command says then.
start_telling() {
  tell_now_and_then "$@" &
  telling=$!
}
stop_telling() {
  [[ $telling ]] || return 0
  kill "$telling" 2>/dev/null || true
  wait "$telling" 2>/dev/null || true
  telling=''
}
tell_now_and_then() {
  local began=$SECONDS
  trap - ERR
  # A read that times out, since a sleep would outlive this function.
  while read -r -t "$beat" <> <(:) || kill -0 $$ 2>/dev/null; do
    say "  ... $((SECONDS - began)) s: $("$@")"
  done
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

# build DIR [TARGET...]: builds the targets, or everything, and says how it goes.
build() {
  local dir=$1 steps
  shift
  # A dry run counts what is out of date.
  steps=$(ninja -C "$dir" -n "$@" | grep -c '^\[') || true
  ((steps)) || return 0
  say "building ${*:-everything} in $dir: $steps steps, about $(duration $((steps * step_seconds / $(nproc)))) on" \
    "$(nproc) cores, less where a compiler cache helps"
  NINJA_STATUS='[%f/%t] ' ninja -C "$dir" "$@" 2>&1 | show_steps ||
    die "building in $dir failed; the compiler's messages are above"
}

# What one step of the build takes of one core, on average: 2026, a core of some 3 GHz.
step_seconds=3

duration() { # SECONDS
  if (($1 < 90)); then echo "$1 seconds"; else echo "$((($1 + 30) / 60)) minutes"; fi
}

# Turns the line that ninja prints for each step into one now and then. All else passes: warnings and errors.
show_steps() {
  local line status last=$SECONDS began=$SECONDS done='no step'
  while :; do
    status=0
    IFS= read -r -t "$beat" line || status=$?
    ((status == 0 || status > 128)) || break # 128 and more: nothing came for a while
    if ((status == 0)); then
      if [[ $line =~ ^\[([0-9]+)/([0-9]+)\]\  ]]; then
        done="${BASH_REMATCH[1]} of ${BASH_REMATCH[2]} steps"
      elif [[ $line != 'ninja: Entering directory'* ]]; then
        printf '%s\n' "$line" >&2
      fi
    fi
    if ((SECONDS - last >= beat)); then
      say "  ... $((SECONDS - began)) s: $done done"
      last=$SECONDS
    fi
  done
}
