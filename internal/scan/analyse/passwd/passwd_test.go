package passwd_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/inventory"
	"github.com/castellan-security/castellan/internal/scan/analyse"
	"github.com/castellan-security/castellan/internal/scan/analyse/passwd"
	"github.com/google/go-cmp/cmp"
)

func take(t testing.TB, text string) (*inventory.Users, error) {
	var shown analyse.Shown
	err := passwd.Analyser{}.Take(t.Context(), &analyse.Entry{Path: passwd.File, Size: int64(len(text))}, strings.NewReader(text), &shown)
	return shown.Users, err
}

func TestTake(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       inventory.Users
	}{
		{"as it is", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/usr/sbin/nologin\napp:x:1000:1000::/app:\n",
			inventory.Users{Root: []string{"root"}, Others: []string{"app", "daemon"}}},
		{"another name of root", "root:x:0:0\ntoor::0:0:::\n", inventory.Users{Root: []string{"root", "toor"}}},
		{"no root at all", "app:x:1000:1000", inventory.Users{Others: []string{"app"}}},
		{"empty", "\n \r\n", inventory.Users{}},
		{"no number", "a\nb:x\nc:x:\nd:x:many:1\ne:x:0x10:1\nf:x: 7:1", inventory.Users{Root: []string{"a", "b", "c", "d", "e", "f"}}},
		{"odd numbers", "a:x:+0\nb:x:-0\nc:x:000:\nd:x:-1\ne:x:99999999999999999999:1\n", inventory.Users{Root: []string{"a", "b", "c"}, Others: []string{"d", "e"}}},
		{"twice", "a:x:1:1\na:x:0:0\nb:x:0:0\nb:x:1:1\n", inventory.Users{Root: []string{"a", "b"}}},
		{"what a C library takes for something else", "#old:x:0:0\n+::::::\n:x:0:0\n", inventory.Users{Root: []string{"", "#old", "+"}}},
		{"blanks and returns", "  a:x:1:1 \r\n\tb:x:0:0\r\n", inventory.Users{Root: []string{"b"}, Others: []string{"a"}}},
		{"a name that is no text", "\xff\xfe:x:0:0\nb:x:1:", inventory.Users{Others: []string{"b"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := take(t, tc.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tc.want, got); diff != "" {
				t.Errorf("users (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTooMuch(t *testing.T) {
	var many strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&many, "u%d:x:1:1\n", i)
	}
	for name, text := range map[string]string{
		"file": strings.Repeat("\n", 1<<20), "names": many.String(), "name": strings.Repeat("a", 5000) + ":x:0:0\n",
	} {
		if users, err := take(t, text); err == nil || users != nil {
			t.Errorf("%s: %v, %v; want an error", name, users, err)
		}
	}
}

func TestWants(t *testing.T) {
	for path, want := range map[string]bool{"etc/passwd": true, "etc/passwd-": false, "usr/etc/passwd": false, "etc/passwd/x": false} {
		if got := (passwd.Analyser{}).Wants(&analyse.Entry{Path: path}, []byte("root:")); got != want {
			t.Errorf("Wants(%s) = %v, want %v", path, got, want)
		}
		if (passwd.Analyser{}).Wants(&analyse.Entry{Path: path}, nil) {
			t.Errorf("Wants(%s) of a link", path)
		}
	}
}

func FuzzPasswd(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/sh\ntoor::0")
	f.Add("a\n:\n::0\n\xff")
	f.Fuzz(func(t *testing.T, text string) {
		users, err := take(t, text)
		if (users == nil) != (err != nil) {
			t.Fatalf("%v, %v", users, err)
		}
		if users == nil {
			return
		}
		if !slices.IsSorted(users.Root) || !slices.IsSorted(users.Others) {
			t.Errorf("not in order: %+v", users)
		}
		for _, name := range users.Root {
			if _, both := slices.BinarySearch(users.Others, name); both || strings.ContainsAny(name, ":\n") {
				t.Errorf("name %q of %+v", name, users)
			}
		}
	})
}
