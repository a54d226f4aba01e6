package intent_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/harden/intent"
	"github.com/castellan-security/castellan/internal/profile"
)

func TestNames(t *testing.T) {
	for _, tc := range []struct {
		group   asset.Group
		between byte
		want    string // its beginning, where a number follows
		number  bool
	}{
		{"shop/web/nginx", '.', "castellan-shop.web.nginx", false},
		{"shop/web/nginx", '_', "castellan_shop_web_nginx", false},
		{"shop-1/web_2/nginx", '.', "castellan-shop-1.web_2.nginx", false},
		{"shop/web_2/nginx", '_', "castellan_shop_web_2_nginx_", true},
		{"docker/a.b", '.', "castellan-docker.a_b.", true},
		{"a/\"} x\n", '.', "castellan-a.___x_.", true},
		{asset.Group(strings.Repeat("a", 500)), '.', "castellan-aaa", true},
	} {
		got := intent.Name(tc.group, tc.between)
		if tc.number && (!strings.HasPrefix(got, tc.want) || len(got) > 140) || !tc.number && got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.group, got, tc.want)
		}
	}
}

// No two groups have one name.
func TestNamesDiffer(t *testing.T) {
	groups := []asset.Group{"a/b/c", "a/b-c", "a/b_c", "a_b/c", "a.b/c", "a/b.c", "a-b/c", "a b/c", "a/b/c ", "A/b/c", "a//b/c", "ab/c", "a/b\x00c", "a/b\nc"}
	for _, between := range []byte{'.', '_'} {
		seen := map[string]asset.Group{}
		for _, g := range groups {
			name := intent.Name(g, between)
			if other, twice := seen[name]; twice {
				t.Errorf("%q and %q are both %s", g, other, name)
			}
			seen[name] = g
		}
	}
}

// Overlap finds out by the patterns what a search for a path finds.
func TestOverlapIsWhatPathsSay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "ab", "ba", "*", "a*", "*a", "a*b", "b*"}
	pattern := func() profile.Pattern {
		var b strings.Builder
		for range 1 + r.IntN(3) {
			b.WriteString("/" + names[r.IntN(len(names))])
		}
		if r.IntN(4) == 0 {
			b.WriteString("/**")
		}
		return profile.Pattern(b.String())
	}
	// Every path of up to four names of up to four letters would be many: these are
	// enough for patterns of these names.
	parts := []string{"a", "b", "ab", "ba", "aa", "bb", "aab", "aba", "bab", "bba", "abab"}
	var paths []string
	var build func(string, int)
	build = func(p string, deep int) {
		if deep == 4 {
			return
		}
		for _, n := range parts {
			paths = append(paths, p+"/"+n)
			build(p+"/"+n, deep+1)
		}
	}
	build("", 0)
	for range 300 {
		p, q := pattern(), pattern()
		want := slices.ContainsFunc(paths, func(path string) bool { return p.Match(path) && q.Match(path) })
		if got := intent.Overlap(p, q); got != want || intent.Overlap(q, p) != want {
			t.Errorf("%s and %s overlap: %v, want %v", p, q, got, want)
		}
	}
}

func TestCapabilitiesThatOtherEntriesRestOn(t *testing.T) {
	listen := func(port uint16) profile.Listen {
		return profile.Listen{Protocol: "tcp", Port: profile.Ports{First: port, Last: port}}
	}
	for _, tc := range []struct {
		name string
		p    profile.Profile
		want string
	}{
		{"nothing", profile.Profile{}, ""},
		{"learned", profile.Profile{Capabilities: []profile.Capability{{Name: "SYS_TIME"}}}, "SYS_TIME"},
		{"low port", profile.Profile{Listens: []profile.Listen{listen(80)}}, "NET_BIND_SERVICE"},
		{"high port", profile.Profile{Listens: []profile.Listen{listen(8080)}}, ""},
		{"user", profile.Profile{Privileges: []profile.Privilege{{Kind: event.KindUser}}}, "SETGID SETUID"},
		{"ping", profile.Profile{Peers: []profile.Peer{{Protocol: "icmp"}}}, "NET_RAW"},
		{"root alone", profile.Profile{Executables: []profile.Executable{{Users: []uint32{0}}}}, ""},
		{"root and another", profile.Profile{Executables: []profile.Executable{{Users: []uint32{0, 5}}}}, "CHOWN? DAC_OVERRIDE? FOWNER? KILL? SETGID? SETUID?"},
		{"had, used and permitted", profile.Profile{UsesSeen: true, Capabilities: []profile.Capability{
			{Name: "CHOWN", Evidence: profile.Evidence{Source: profile.Learned, Used: true}}, {Name: "KILL", Evidence: profile.Evidence{Source: profile.Learned}},
			{Name: "SYS_TIME", Evidence: profile.Evidence{Source: profile.Person}}}}, "CHOWN SYS_TIME"},
		{"had, where nobody sees uses", profile.Profile{Capabilities: []profile.Capability{{Name: "KILL", Evidence: profile.Evidence{Source: profile.Learned}}}}, "KILL"},
		{"root and another, where uses are seen", profile.Profile{UsesSeen: true, Executables: []profile.Executable{{Users: []uint32{0, 5}}}}, ""},
	} {
		var got []string
		for _, c := range intent.Capabilities(&tc.p) {
			name := c.Name
			if c.Unseen {
				name += "?"
			}
			got = append(got, name)
		}
		if fmt.Sprint(strings.Join(got, " ")) != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, strings.Join(got, " "), tc.want)
		}
	}
}

func TestCommentsAreOneLine(t *testing.T) {
	got := intent.Origin(profile.Evidence{Source: profile.Person, Actor: "kim\n/** rw,", Comment: strings.Repeat("x\r\n", 200), Sample: "\x1b[31m"})
	if strings.ContainsAny(got, "\r\n\x1b") || len(got) > 200 {
		t.Errorf("got %q", got)
	}
}
