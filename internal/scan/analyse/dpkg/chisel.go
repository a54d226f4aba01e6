package dpkg

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/pull"
)

// manifestFile is what Chisel writes, which cuts Ubuntu's packages into slices:
// images made of those have no dpkg.
const manifestFile = "var/lib/chisel/manifest.wall"

const (
	// maxManifest bounds the manifest decompressed; that of an image with a Java
	// runtime has 400 KiB.
	maxManifest = 64 << 20
	// maxManifestWindow is what its compressor uses at most.
	maxManifestWindow = 8 << 20
)

// takeManifest reads a manifest: a line a package, a path with its slices, …,
// each an object of JSON. Of a package's source it says nothing (see slicedFrom).
func takeManifest(ctx context.Context, r io.Reader, shown *analyse.Shown) error {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxManifestWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer z.Close()
	limited := &io.LimitedReader{R: z, N: maxManifest + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 0, 16<<10), maxLine)
	owned := map[string][]string{}
	for lines.Scan() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err = takeWall(lines.Bytes(), shown, owned); err != nil {
			break
		}
	}
	if limited.N <= 0 {
		return fmt.Errorf("manifest of Chisel has more than %d bytes", maxManifest)
	}
	if err = errors.Join(err, lines.Err()); err != nil {
		return fmt.Errorf("manifest of Chisel: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(owned)) {
		slices.Sort(owned[name])
		shown.Owned = append(shown.Owned, analyse.Owned{Type: "deb", Name: name, Files: slices.Compact(owned[name])})
	}
	return nil
}

// takeWall reads one line.
func takeWall(line []byte, shown *analyse.Shown, owned map[string][]string) error {
	var kind, path string
	var slice []string
	p := inventory.Package{Type: "deb", Found: inventory.Installed}
	j := pull.NewJSON(bytes.NewReader(line), int64(len(line)), maxLine)
	err := j.Object(func(key []byte) (err error) {
		switch string(key) {
		case "kind":
			kind, err = j.Text()
		case "name":
			p.Name, err = j.Text()
		case "version":
			p.Version, err = j.Text()
		case "arch":
			p.Arch, err = j.Text()
		case "path":
			path, err = j.Text()
		case "slices":
			err = j.Array(func(int) error {
				s, err := j.Text()
				slice = append(slice, s)
				return err
			})
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case kind == "package" && p.Version != "":
		p.Source = inventory.Source{Name: slicedFrom(p.Name), Version: p.Version}
		return shown.Add(p)
	case kind == "path" && analyse.Keeps(path):
		for _, s := range slice {
			name, _, _ := strings.Cut(s, "_") // package_slice
			if owned[name] = append(owned[name], path); len(owned[name]) > maxOwned {
				return errors.New("a package owns too much")
			}
		}
	}
	return nil
}

// sources are what packages that Ubuntu slices are built from, by their names
// without the numbers of their interfaces. Most others are called like their
// source.
var sources = map[string]string{
	"libc": "glibc", "libc-bin": "glibc", "libssl": "openssl", "zlibg": "zlib", "libzstd": "libzstd", "libicu": "icu",
	"libgssapi-krb": "krb5", "libkrb": "krb5", "libkcrypto": "krb5", "libkrbsupport": "krb5", "libcom-err": "e2fsprogs", "libuuid": "util-linux",
	"libblkid": "util-linux", "libmount": "util-linux", "libsmartcols": "util-linux", "libexpat": "expat", "libsqlite": "sqlite3", "libbz": "bzip2",
	"liblzma": "xz-utils", "libffi": "libffi", "libncursesw": "ncurses", "libtinfo": "ncurses", "libreadline": "readline", "libpng": "libpng1.6",
	"libpcre": "pcre2", "libselinux": "libselinux", "libcrypt": "libxcrypt", "libpam-modules": "pam", "libpam-runtime": "pam", "libpamg": "pam",
	"libaudit": "audit", "libcap": "libcap2", "libsystemd": "systemd", "libudev": "systemd", "libfreetype": "freetype", "libfontconfig": "fontconfig",
	"libglib": "glib2.0", "libgmp": "gmp", "libgnutls": "gnutls28", "libnettle": "nettle", "libhogweed": "nettle", "libcurl": "curl",
	"libcurl-gnutls": "curl", "libnghttp": "nghttp2", "libxml": "libxml2", "libdb": "db5.3", "libjpeg-turbo": "libjpeg-turbo", "liblcms": "lcms2",
}

// slicedFrom returns the source of a package as far as its name tells it.
func slicedFrom(name string) string {
	for _, line := range [...]struct{ begins, source string }{{"openjdk-", "openjdk-"}, {"python3.", "python3."}, {"libpython3.", "python3."}} {
		if rest, ok := strings.CutPrefix(name, line.begins); ok {
			number, _, _ := strings.Cut(rest, "-")
			return line.source + number
		}
	}
	for _, part := range [...]string{"dotnet-runtime-", "aspnetcore-runtime-", "dotnet-hostfxr-", "dotnet-sdk-"} {
		if rest, ok := strings.CutPrefix(name, part); ok {
			return "dotnet" + strings.TrimSuffix(rest, ".0")
		}
	}
	stem := strings.TrimRight(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, strings.TrimSuffix(name, "t64")), "-.")
	if s, ok := sources[stem]; ok {
		return s
	}
	return name
}
