package scan

import (
	"encoding/csv"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/inventory"
)

func TestUnmaintained(t *testing.T) {
	at := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		os   inventory.OS
		want string
	}{
		{inventory.OS{ID: "debian", Version: "10", Name: "Debian GNU/Linux 10 (buster)"}, "2024-06-30"},
		{inventory.OS{ID: "debian", Version: "12.5"}, ""},
		{inventory.OS{ID: "debian", Codename: "forky"}, ""},
		{inventory.OS{ID: "ubuntu", Version: "18.04"}, "2023-05-31"},
		{inventory.OS{ID: "ubuntu", Version: "24.04"}, ""},
		{inventory.OS{ID: "alpine", Version: "3.18.4"}, "2025-05-09"},
		{inventory.OS{ID: "alpine", Version: "3.22.0"}, ""},
		{inventory.OS{ID: "alpine", Version: "3.21_alpha20240807"}, ""},
		{inventory.OS{ID: "amzn", Version: "2018.03"}, "2023-12-31"},
		{inventory.OS{ID: "amzn", Version: "2"}, "2026-06-30"},
		{inventory.OS{ID: "amzn", Version: "2023"}, ""},
		{inventory.OS{ID: "centos", Version: "8", Name: "CentOS Linux 8"}, "2021-12-31"},
		{inventory.OS{ID: "centos", Version: "8", Name: "CentOS Stream 8"}, "2024-05-31"},
		{inventory.OS{ID: "centos", Version: "9", Name: "CentOS Stream 9"}, ""},
		{inventory.OS{ID: "ol", Version: "7.9"}, "2024-12-31"},
		{inventory.OS{ID: "fedora", Version: "41"}, "2025-12-15"},
		{inventory.OS{ID: "rhel", Version: "8.6"}, ""},
		{inventory.OS{ID: "wolfi", Version: "20230201"}, ""},
		{inventory.OS{}, ""},
	} {
		t.Run(tc.os.ID+" "+tc.os.Version+tc.os.Codename, func(t *testing.T) {
			got := ""
			if u := Unmaintained(tc.os, at); u != nil {
				got = u.Since.Format(time.DateOnly)
				if u.System == "" {
					t.Error("it has no name")
				}
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	last := time.Date(2024, 6, 30, 12, 0, 0, 0, time.UTC)
	if u := Unmaintained(inventory.OS{ID: "debian", Version: "10"}, last); u != nil {
		t.Errorf("on the last day: %+v", u)
	}
}

func TestTheDatesOfSupportAreDates(t *testing.T) {
	for release, day := range supportEnds {
		if _, err := time.Parse(time.DateOnly, day); err != nil {
			t.Errorf("%s: %v", release, err)
		}
	}
}

// TestTheDatesOfSupportAreThoseOfDebian holds the table against the list that Debian
// keeps of its releases and Ubuntu's, where a machine has it.
func TestTheDatesOfSupportAreThoseOfDebian(t *testing.T) {
	for id, column := range map[string][]string{"debian": {"eol-lts", "eol"}, "ubuntu": {"eol"}} {
		f, err := os.Open("/usr/share/distro-info/" + id + ".csv")
		if err != nil {
			t.Skipf("no distro-info-data here: %v", err)
		}
		defer func() { _ = f.Close() }()
		lines := csv.NewReader(f)
		lines.FieldsPerRecord = -1
		rows, err := lines.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows[1:] {
			version, _, _ := strings.Cut(row[0], " ")
			day, known := supportEnds[id+" "+version]
			want := ""
			for _, name := range column {
				for i, head := range rows[0] {
					if head == name && i < len(row) && want == "" {
						want = row[i]
					}
				}
			}
			if known && want != "" && day != want {
				t.Errorf("%s %s: %s, the list has %s", id, version, day, want)
			}
		}
	}
}
