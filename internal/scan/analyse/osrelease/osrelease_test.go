package osrelease_test

import (
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/osrelease"
	"github.com/google/go-cmp/cmp"
)

func take(t testing.TB, text string) (*inventory.OS, error) {
	var shown analyse.Shown
	err := osrelease.Analyser{}.Take(t.Context(), &analyse.Entry{Path: "etc/os-release", Size: int64(len(text))}, strings.NewReader(text), &shown)
	return shown.OS, err
}

func TestTake(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       inventory.OS
	}{
		{"Debian", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n",
			inventory.OS{ID: "debian", Version: "12", Codename: "bookworm", Name: "Debian GNU/Linux 12 (bookworm)"}},
		{"Debian testing", "PRETTY_NAME=\"Debian GNU/Linux forky/sid\"\nVERSION_CODENAME=forky\nID=debian",
			inventory.OS{ID: "debian", Codename: "forky", Name: "Debian GNU/Linux forky/sid"}},
		{"Alpine", "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.20.3\nPRETTY_NAME='Alpine Linux v3.20'\n",
			inventory.OS{ID: "alpine", Version: "3.20.3", Name: "Alpine Linux v3.20"}},
		{"Amazon Linux", "ID=\"amzn\"\nID_LIKE=\"centos rhel fedora\"\nVERSION_ID=\"2\"\n",
			inventory.OS{ID: "amzn", Like: []string{"centos", "rhel", "fedora"}, Version: "2"}},
		{"comments, blanks, returns", "# ID=no\r\n\r\n  ID=x\r\nVERSION_ID = 1\r\njunk\n", inventory.OS{ID: "x"}},
		{"escapes", `ID=a\ b` + "\n" + `PRETTY_NAME="a \"b\" \$c \n d"'e\'f`, inventory.OS{ID: "a b", Name: `a "b" $c \n de\f`}},
		{"an unended quote says nothing", "ID=x\nPRETTY_NAME=\"a", inventory.OS{ID: "x"}},
		{"without an ID", "VERSION_ID=1", inventory.OS{ID: "linux", Version: "1"}},
		{"a value that is too long", "ID=x\nVERSION_ID=" + strings.Repeat("1", 300), inventory.OS{ID: "x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := take(t, tc.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tc.want, got); diff != "" {
				t.Errorf("OS (-want +got):\n%s", diff)
			}
		})
	}
	for _, text := range []string{"", "nothing here", strings.Repeat("ID=x\n", 20000)} {
		if os, err := take(t, text); err == nil || os != nil {
			t.Errorf("%.20q: %v, %v; want an error", text, os, err)
		}
	}
}

func TestWants(t *testing.T) {
	for path, want := range map[string]bool{"etc/os-release": true, "usr/lib/os-release": true, "opt/etc/os-release": false, "etc/os-release/x": false} {
		if got := (osrelease.Analyser{}).Wants(&analyse.Entry{Path: path}, []byte("ID=")); got != want {
			t.Errorf("Wants(%s) = %v, want %v", path, got, want)
		}
		if (osrelease.Analyser{}).Wants(&analyse.Entry{Path: path}, nil) {
			t.Errorf("Wants(%s) of a link", path)
		}
	}
}

func FuzzOSRelease(f *testing.F) {
	f.Add("ID=\"a\\\"b\"\nID_LIKE='x y'\nVERSION_ID=1")
	f.Fuzz(func(t *testing.T, text string) {
		os, err := take(t, text)
		if (os == nil) != (err != nil) {
			t.Fatalf("%v, %v", os, err)
		}
		if os != nil && (os.ID == "" || len(os.ID)+len(os.Version)+len(os.Codename)+len(os.Name) > 4*256+len("linux")) {
			t.Errorf("values out of bounds: %+v", os)
		}
	})
}
