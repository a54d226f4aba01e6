package document_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/document"
	"github.com/castellan-security/castellan/internal/written"
)

var prefixes = cmpopts.EquateComparable(netip.Prefix{})

func seen(count uint64, sample string, hosts ...string) profile.Evidence {
	return profile.Evidence{Source: profile.Learned, First: time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC), Last: time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC), Count: count, Hosts: hosts, Sample: sample}
}

// whole has every kind of entry, and texts that are awkward to write.
func whole() *profile.Profile {
	port := func(a, b uint16) profile.Ports { return profile.Ports{First: a, Last: b} }
	person := profile.Evidence{Source: profile.Person, Actor: "ana@example.com", Comment: "nightly: \"dump\" # 2"}
	return &profile.Profile{
		Group: "prod/shop/web", Revision: 12,
		Versions: []profile.Version{{Digest: "sha256:" + strings.Repeat("ab", 32), Reference: "registry.example/shop/web:1.4", First: time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC), Last: time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)}},
		Executables: []profile.Executable{
			{Path: "/bin/dash", Origin: event.OriginImage, Digest: "sha256:" + strings.Repeat("0c", 32), Parents: []profile.Pattern{"", "/usr/sbin/nginx"}, Users: []uint32{0, 101}, Scripts: []profile.Pattern{"/docker-entrypoint.sh"}, Loads: []profile.Pattern{"/dev/stdin", "/etc/profile.d/**"}, Evidence: seen(3, "", "a", "b")},
			{Path: "/data/a b: c/tool", Origin: event.OriginMount, Evidence: person},
		},
		Writes:       []profile.File{{Path: "/tmp/*", Programs: []profile.Pattern{"/usr/sbin/nginx"}, Evidence: seen(1, "/tmp/x\n- path: /**", "a")}, {Path: "/var/cache/nginx/**", Evidence: seen(1204, "/var/cache/nginx/client_temp/0000000001", "a", "b", "c", "d", "e", "f", "g", "h")}},
		Reads:        []profile.File{{Path: "/etc/ssl/private/true", Evidence: profile.Evidence{Source: profile.Initial}}},
		Listens:      []profile.Listen{{Protocol: "tcp", Port: port(80, 80), Evidence: seen(2, "")}, {Protocol: "udp", Port: port(32768, 65535), Evidence: seen(2, "")}},
		Peers:        []profile.Peer{{Protocol: "tcp", Port: port(5432, 5432), Group: "prod/shop/db", Evidence: seen(9, "")}, {Protocol: "icmp", Kind: event.PeerSelf, Evidence: seen(9, "")}, {Protocol: "tcp", Port: port(443, 443), Name: "*.example.com", Evidence: seen(9, "")}, {Protocol: "tcp", Port: port(443, 443), Network: netip.MustParsePrefix("fd00::1/128"), Evidence: seen(9, "")}, {Protocol: "tcp", Port: port(80, 80), Network: netip.MustParsePrefix("10.0.1.0/24"), Evidence: seen(9, "")}},
		Callers:      []profile.Peer{{Protocol: "tcp", Port: port(80, 80), Network: netip.MustParsePrefix("0.0.0.0/0"), Evidence: seen(9, "")}},
		Names:        []profile.Name{{Name: "1.2.example.com", Evidence: seen(4, "")}, {Name: "null", Evidence: seen(4, "")}},
		Capabilities: []profile.Capability{{Name: "NET_BIND_SERVICE", Evidence: seen(1, "")}},
		Privileges:   []profile.Privilege{{Kind: event.KindRaw, Detail: "raw", Evidence: seen(1, "")}, {Kind: event.KindClone, Detail: "newns,newuser", Evidence: seen(1, "")}},
		Calls:        []profile.Call{{Name: "accept4", Evidence: seen(1, "")}, {Name: "openat", Evidence: seen(1, "")}},
		Limits:       profile.Limits{Processes: 256, Memory: 512 << 20, CPU: 2000, WriteBytes: 1000, Source: profile.Learned},
	}
}

func TestTheTextIsAsItWas(t *testing.T) {
	got := document.Write(whole(), "web")
	const golden = "testdata/whole.yaml"
	if os.Getenv("CASTELLAN_GOLDEN") == "write" {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), string(want)); diff != "" {
		t.Errorf("text (-got +want):\n%s", diff)
	}
}

func TestReadBackItIsTheSame(t *testing.T) {
	p := whole()
	d, err := document.Read(document.Write(p, "web: a"), "p.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "web: a" || d.Edited || d.Digest != document.Digest(d.Profile) {
		t.Errorf("name %q, edited %v", d.Name, d.Edited)
	}
	arranged, err := document.Read(document.Write(d.Profile, ""), "p.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(arranged.Profile, d.Profile, prefixes); diff != "" {
		t.Errorf("read twice (-got +want):\n%s", diff)
	}
	back := document.Import(p, d.Profile)
	if diff := document.Diff(p, back); len(diff) > 0 {
		t.Errorf("imported unchanged, it differs: %+v", diff)
	}
	for i, w := range back.Writes {
		if diff := cmp.Diff(w.Evidence, p.Writes[i].Evidence); diff != "" {
			t.Errorf("evidence of %s (-got +want):\n%s", w.Path, diff)
		}
	}
	if back.Limits != p.Limits {
		t.Errorf("limits %+v, want %+v", back.Limits, p.Limits)
	}
}

func TestWhatIsEditedIsAPersons(t *testing.T) {
	p := whole()
	text := bytes.Replace(document.Write(p, ""), []byte("path: /tmp/*"), []byte("path: /var/tmp/*"), 1)
	d, err := document.Read(text, "p.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !d.Edited {
		t.Error("an edited text does not say so")
	}
	back := document.Import(p, d.Profile)
	var got []string
	for _, w := range back.Writes {
		got = append(got, fmt.Sprint(w.Path, " ", w.Source))
	}
	if diff := cmp.Diff(got, []string{"/var/cache/nginx/** learned", "/var/tmp/* person"}); diff != "" {
		t.Errorf("sources (-got +want):\n%s", diff)
	}
	got = nil
	for _, c := range document.Diff(p, back) {
		got = append(got, fmt.Sprint(c.Added, " ", c.Sentence))
	}
	if diff := cmp.Diff(got, []string{"true writes /var/tmp/*", "false writes /tmp/*"}); diff != "" {
		t.Errorf("differences (-got +want):\n%s", diff)
	}
}

func TestTheDigestIsOfWhatIsPermitted(t *testing.T) {
	a, b := whole(), whole()
	b.Revision, b.Writes[0].Count, b.Writes[0].Comment = 99, 7, "x"
	if document.Digest(a) != document.Digest(b) {
		t.Error("evidence changes the digest")
	}
	b.Writes[0].Path = "/tmp/**"
	if document.Digest(a) == document.Digest(b) {
		t.Error("what is permitted does not change the digest")
	}
}

func TestWhatIsWrongIsToldWhereItStands(t *testing.T) {
	const head = "profile: 1\ngroup: g\n"
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", "", "p.yaml: the profile is empty"},
		{"no YAML", "a: [", "p.yaml:1:1: did not find expected node content"},
		{"another form", "profile: 2\ngroup: g\n", `p.yaml:1:1: the profile's form is "2", and 1 is the only one that there is`},
		{"unknown key", head + "wirtes: []\n", `p.yaml:3:1: the profile has no "wirtes"`},
		{"twice", head + "group: h\n", "p.yaml:3:1: the profile has group twice"},
		{"no list", head + "writes: /tmp\n", "p.yaml:3:9: writes is no list"},
		{"relative path", head + "writes:\n  - path: tmp/x\n", `p.yaml:4:11: path: "tmp/x" is not absolute: begin it with /`},
		{"two stars", head + "writes:\n  - path: /a*b*c\n", `p.yaml:4:11: path: "/a*b*c" has a name with more than one *`},
		{"no path", head + "writes:\n  - programs: [/bin/x]\n", "p.yaml:4:5: a file has no path"},
		{"origin", head + "executables:\n  - path: /x\n    origin: host\n", `p.yaml:5:13: there is no origin "host"`},
		{"anything written may run", head + "executables:\n  - path: /tmp/**\n    origin: written\n", "p.yaml:4:5: /tmp/** would let anything that was written run"},
		{"port", head + "listens:\n  - port: tcp/99999\n", `p.yaml:4:11: "tcp/99999" is no port`},
		{"two peers in one", head + "peers:\n  - {group: a, name: b, port: tcp/1}\n", "p.yaml:4:5: a peer has 2 of group, name, network and kind"},
		{"network", head + "peers:\n  - {network: 10.0.0.1/8, port: tcp/1}\n", `p.yaml:4:15: "10.0.0.1/8" is no network`},
		{"name", head + "names:\n  - name: 'a b'\n", `p.yaml:4:11: "a b" is no DNS name`},
		{"capability", head + "capabilities:\n  - name: SYS_ADMINISTER\n", `p.yaml:4:11: "SYS_ADMINISTER" is no capability`},
		{"kind", head + "privileges:\n  - kind: file.write\n", `p.yaml:4:11: there is no kind "file.write" of privileged calls`},
		{"size", head + "limits:\n  memory: 5 GB\n", "p.yaml:4:11: memory is no size"},
		{"anchor", head + "writes: &x\n  - path: /a\n", "p.yaml:3:9: anchors and aliases are not read in a profile: each line must say what it means"},
		{"user", head + "executables:\n  - path: /x\n    users: [root]\n", "p.yaml:5:13: user is no number from 0 to 4294967295"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := document.Read([]byte(tc.text), "p.yaml")
			problems := written.ProblemsOf(err)
			if len(problems) != 1 || problems[0].Error() != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestTooMuchIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"bytes":   "profile: 1\nname: " + strings.Repeat("x", document.MaxBytes),
		"entries": "profile: 1\ncalls: [" + strings.Repeat("a,", 20_000) + "]",
		"depth":   "profile: 1\nwrites: " + strings.Repeat("[", 50) + strings.Repeat("]", 50),
	} {
		if _, err := document.Read([]byte(text), "p.yaml"); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(document.Write(whole(), "web"))
	f.Add([]byte("profile: 1\npeers:\n  - {network: 10.0.0.0/8, port: tcp/1-2}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := document.Read(b, "p.yaml")
		if err != nil {
			return
		}
		again, err := document.Read(document.Write(d.Profile, d.Name), "p.yaml")
		if err != nil {
			t.Fatalf("what was written is not read: %v\n%s", err, document.Write(d.Profile, d.Name))
		}
		if diff := cmp.Diff(again.Profile, d.Profile, prefixes, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("written and read (-got +want):\n%s", diff)
		}
		if again.Edited {
			t.Fatal("what was written says that it was edited")
		}
	})
}
