package all_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/all"
)

// BenchmarkWants asks all analysers about files of the kinds that images have
// most of; the figure is for one file.
func BenchmarkWants(b *testing.B) {
	analysers := all.Analysers()
	head := make([]byte, analyse.HeadSize)
	copy(head, "import os\n")
	var entries []*analyse.Entry
	for _, path := range []string{
		"usr/lib/python3.11/site-packages/django/contrib/admin/static/admin/js/vendor/select2/i18n/de.js",
		"usr/share/zoneinfo/Europe/Berlin",
		"app/node_modules/@babel/core/lib/config/files/package.js",
		"usr/share/doc/libssl3/changelog.Debian.gz",
		"usr/include/linux/netfilter/nf_tables.h",
		"app/node_modules/lodash/package.json",
	} {
		entries = append(entries, &analyse.Entry{Path: path, Mode: 0o644, Size: 4096})
	}
	for i := 0; b.Loop(); i++ {
		for _, a := range analysers {
			a.Wants(entries[i%len(entries)], head)
		}
	}
}
