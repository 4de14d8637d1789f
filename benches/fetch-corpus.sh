#!/usr/bin/env bash
# Real release streams to measure with, fetched by package name with pip and npm into DIR (default: ./corpus, git-ignored).
#   benches/fetch-corpus.sh [DIR]      -> DIR/{uv,esbuild}/<version>/…  and DIR/state/<n>/state.sqlite
# uv: Rust ELF, ~40 MB; esbuild: Go ELF, ~10 MB; state: an SQLite database and three later states of it (1, 2, 5 % of rows changed).
set -euo pipefail
dir=${1:-corpus}; mkdir -p "$dir"; dir=$(cd "$dir" && pwd)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
for version in 0.13.1 0.13.2 0.13.3 0.13.4 0.13.5 0.13.6; do
  to=$dir/uv/$version; [ -d "$to" ] && continue
  pip download -q --no-deps --only-binary=:all: --disable-pip-version-check -d "$work/uv-$version" "uv==$version"
  mkdir -p "$to.part"; python3 -m zipfile -e "$work/uv-$version"/*.whl "$to.part"
  find "$to.part" \( -path '*/bin/*' -o -path '*/scripts/*' \) -type f -exec chmod 755 {} +; mv "$to.part" "$to"
done
for version in 0.27.3 0.27.4 0.27.5 0.27.7 0.28.0 0.28.1 0.28.2; do
  to=$dir/esbuild/$version; [ -d "$to" ] && continue
  mkdir -p "$work/esbuild-$version" "$to.part"
  (cd "$work/esbuild-$version" && npm pack --silent "@esbuild/linux-x64@$version" >/dev/null)
  tar xzf "$work/esbuild-$version"/*.tgz -C "$to.part" --strip-components 1; mv "$to.part" "$to"
done
[ -d "$dir/state" ] || python3 - "$dir/state" <<'PY'
import os, random, shutil, sqlite3, sys
root = sys.argv[1]; part = root + ".part"; shutil.rmtree(part, ignore_errors=True); os.makedirs(part + "/0")
rng = random.Random(7); rows = 400_000
db = sqlite3.connect(f"{part}/0/state.sqlite")
db.execute("create table object(id blob primary key, owner blob, version integer, body blob)")
db.executemany("insert into object values(?,?,?,?)", ((rng.randbytes(32), rng.randbytes(20), 0, rng.randbytes(rng.randint(40, 400))) for _ in range(rows)))
db.execute("create index by_owner on object(owner)"); db.commit(); db.close()
for n, share in ((1, .01), (2, .02), (3, .05)):
    shutil.copytree(f"{part}/{n-1}", f"{part}/{n}")
    db = sqlite3.connect(f"{part}/{n}/state.sqlite")
    db.executemany("update object set version = version + 1, body = ? where rowid = ?", ((rng.randbytes(rng.randint(40, 400)), rng.randint(1, rows)) for _ in range(int(rows * share))))
    db.commit(); db.close()
os.rename(part, root)
PY
du -sh "$dir"/*
