package watch_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch"
)

func TestWidths(t *testing.T) {
	write := func(subject, pattern string) *profile.Violation {
		return &profile.Violation{Subject: subject, Permit: &profile.Profile{Writes: []profile.File{{Path: profile.Pattern(pattern)}}}}
	}
	peer := func(network string) *profile.Violation {
		return &profile.Violation{Permit: &profile.Profile{Peers: []profile.Peer{{Protocol: "tcp", Port: profile.Ports{First: 80, Last: 80}, Network: netip.MustParsePrefix(network)}}}}
	}
	name := func(n string) *profile.Violation {
		return &profile.Violation{Permit: &profile.Profile{Names: []profile.Name{{Name: n}}}}
	}
	for what, c := range map[string]struct {
		v    *profile.Violation
		want string
	}{
		"nothing can say it":        {&profile.Violation{}, ""},
		"a file":                    {write("/srv/news/a-1.csv", "/srv/news/a-1.csv"), "this=/srv/news/a-1.csv alike=/srv/news/a-*.csv folder=/srv/news/* tree=/srv/news/**"},
		"a file without an ending":  {write("/srv/news/a", "/srv/news/a"), "this=/srv/news/a folder=/srv/news/* tree=/srv/news/**"},
		"a name made by chance":     {write("/tmp/tmpAbC12d", "/tmp/tmp*"), "exact=/tmp/tmpAbC12d this=/tmp/tmp* folder=/tmp/* tree=/tmp/**"},
		"many files of a folder":    {&profile.Violation{Subject: "/srv/a", Folder: &profile.Folder{Path: "/srv/a", Examples: []string{"/srv/a/b"}}, Permit: write("", "/srv/a/*").Permit}, "this=/srv/a/*"},
		"and of those below":        {&profile.Violation{Subject: "/srv/a", Folder: &profile.Folder{Path: "/srv/a", Below: true, Examples: []string{"/srv/a/b/c"}}, Permit: write("", "/srv/a/**").Permit}, "this=/srv/a"},
		"of the system":             {write("/etc/passwd", "/etc/passwd"), "this=/etc/passwd"},
		"a program's folder":        {write("/usr/bin/x.sh", "/usr/bin/x.sh"), "this=/usr/bin/x.sh"},
		"keys":                      {write("/root/.ssh/id.pub", "/root/.ssh/id.pub"), "this=/root/.ssh/id.pub"},
		"whole already":             {write("/app/.cache/x", "/app/.cache/**"), "exact=/app/.cache/x this=/app/.cache/**"},
		"sensitive":                 {&profile.Violation{Subject: "/proc/7/environ", Permit: &profile.Profile{Reads: []profile.File{{Path: "/proc/*/environ"}}}}, "exact=/proc/7/environ this=/proc/*/environ"},
		"a program":                 {&profile.Violation{Subject: "/opt/x", Permit: &profile.Profile{Executables: []profile.Executable{{Path: "/opt/x"}}}}, "this=/opt/x"},
		"a private address":         {peer("10.0.1.7/32"), "this=10.0.1.7 at tcp/80 network=10.0.1.0/24 at tcp/80"},
		"a public address":          {peer("1.1.1.1/32"), "this=1.1.1.1 at tcp/80"},
		"a name":                    {name("a.example.com"), "this=a.example.com domain=*.example.com"},
		"a name of the cloud":       {name("x.s3.amazonaws.com"), "this=x.s3.amazonaws.com"},
		"a name that is registered": {name("example.co.uk"), "this=example.co.uk"},
	} {
		var got []string
		for _, w := range watch.Widths(c.v) {
			x := watch.Changes(&profile.Profile{}, w.Permit)[0]
			words := strings.Fields(x.Sentence)
			if i := strings.Index(x.Sentence, " to "); i >= 0 {
				words = []string{x.Sentence[i+len(" to "):]}
			}
			got = append(got, w.Word+"="+words[len(words)-1])
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %q, want %q", what, strings.Join(got, " "), c.want)
		}
	}
	if _, ok := watch.WidthNamed(write("/etc/passwd", "/etc/passwd"), "tree"); ok {
		t.Error("all of /etc can be permitted at once")
	}
}
