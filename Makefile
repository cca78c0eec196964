# A short front for people; the build itself is Meson.
#   make            programs and mentat-bench in build/bin/
#   make check      build and run the unit tests
#   make docs       what of docs/*.md is made from the programs' tables, again
#   make demo       the demo, from nothing to running services
#   make asan tsan  sanitizer builds in build-asan/, build-tsan/; their reports become files in reports/ there
#   make debug      unoptimised build in build-debug/
#   make release    a release in dist/: static programs, installer, Debian package, SBOM, SHA-256 of all
all:

help:
	@sed -n '/^[^#]/q; s/^# \{0,1\}//p' Makefile

.PHONY: help all check docs demo debug asan tsan release clean
all: build/build.ninja
	@ninja -C build

build/build.ninja:
	meson setup build

debug:
	@[ -f build-debug/build.ninja ] || meson setup build-debug --buildtype=debug
	@ninja -C build-debug

asan:
	@[ -f build-asan/build.ninja ] || meson setup build-asan -Dstatic=false -Db_sanitize=address,undefined -Db_lundef=false
	@ninja -C build-asan

tsan:
	@[ -f build-tsan/build.ninja ] || meson setup build-tsan -Dstatic=false -Db_sanitize=thread -Db_lundef=false
	@ninja -C build-tsan

check: all
	meson test -C build --print-errorlogs

docs: all
	scripts/docs.sh

demo:
	scripts/demo.sh

release:
	@scripts/release.sh

clean:
	rm -rf build build-debug build-asan build-tsan build-release dist
