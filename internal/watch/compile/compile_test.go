package compile_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/profile"
	"github.com/castellan-security/castellan/internal/watch/compile"
)

// A profile's sockets are permitted by their families; one without a family stands for all.
func TestSocketsAreCompiled(t *testing.T) {
	raw := func(details ...string) *profile.Profile {
		p := &profile.Profile{Group: "a/b/c"}
		for _, d := range details {
			p.Privileges = append(p.Privileges, profile.Privilege{Kind: event.KindRaw, Detail: d})
		}
		return p
	}
	for _, tc := range []struct {
		profile *profile.Profile
		has     []string
	}{
		{raw(), nil},
		{raw("packet"), []string{"packet"}},
		{raw("vsock", "raw", "vsock"), []string{"raw", "vsock"}},
		{raw("packet", ""), []string{"raw", "packet", "vsock", "alg"}},
	} {
		r, _, err := compile.Compile(tc.profile, compile.Options{Mode: profile.Protect})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"raw", "packet", "vsock", "alg"} {
			if got, want := r.Network.HasSocket(name), slices.Contains(tc.has, name); got != want {
				t.Errorf("%v permits %s: %t, want %t", tc.has, name, got, want)
			}
		}
	}
}

func port(protocol string, a uint16) profile.PortRule {
	return profile.PortRule{Protocol: protocol, Ports: profile.Ports{First: a, Last: a}}
}

func TestAProfileCompiled(t *testing.T) {
	one := func(a uint16) profile.Ports { return profile.Ports{First: a, Last: a} }
	p := &profile.Profile{
		Group: "prod/shop/web", Revision: 3,
		Executables: []profile.Executable{
			{Path: "/bin/sh", Origin: event.OriginImage, Scripts: []profile.Pattern{"/entry.sh", "/vol/x.sh"}, Loose: []profile.Pattern{"/vol/x.sh"}},
			{Path: "/usr/lib/postgresql/*/bin/psql", Origin: event.OriginImage},
			{Path: "/usr/lib/postgresql/15/bin/psql", Origin: event.OriginImage},
			{Path: "/data/tool", Origin: event.OriginWritten},
			{Path: "/memfd:x", Origin: event.OriginMemory},
		},
		Writes:  []profile.File{{Path: "/data/**"}, {Path: "/data/a/b"}, {Path: "/run/x.pid"}},
		Reads:   []profile.File{{Path: "/etc/shadow"}},
		Listens: []profile.Listen{{Protocol: "tcp", Port: one(80)}},
		Peers: []profile.Peer{
			{Protocol: "tcp", Port: one(5432), Group: "prod/shop/db"}, {Protocol: "tcp", Port: one(1), Group: "prod/shop/gone"},
			{Protocol: "tcp", Port: one(443), Name: "*.example.com"}, {Protocol: "udp", Port: one(53), Network: netip.MustParsePrefix("10.0.0.2/32")},
			{Protocol: "tcp", Port: one(9), Kind: event.PeerSelf}, {Protocol: "tcp", Port: one(22), Kind: event.PeerHost},
		},
		Capabilities: []profile.Capability{{Name: "NET_BIND_SERVICE"}},
		Privileges:   []profile.Privilege{{Kind: event.KindClone, Detail: "a"}, {Kind: event.KindClone, Detail: "b"}, {Kind: event.KindExecProtect}, {Kind: event.KindRaw}},
		Limits:       profile.Limits{Processes: 9},
	}
	got, notes, err := compile.Compile(p, compile.Options{
		Mode: profile.Protect, Switched: map[profile.Control]profile.Answer{profile.ControlFile: profile.Audit},
		Group: func(g asset.Group) []netip.Addr {
			if g == "prod/shop/db" {
				return []netip.Addr{netip.MustParseAddr("10.0.3.4"), netip.MustParseAddr("::ffff:10.0.3.4")}
			}
			return nil
		},
		Hosts: []netip.Addr{netip.MustParseAddr("10.0.0.9")}, Own: []netip.Addr{netip.MustParseAddr("10.0.3.3")},
	})
	if err != nil {
		t.Fatal(err)
	}
	to := func(r profile.PortRule, n string) profile.Destination {
		return profile.Destination{PortRule: r, Network: netip.MustParsePrefix(n)}
	}
	want := profile.Rules{
		Group: "prod/shop/web", Revision: 3,
		Answers: map[profile.Control]profile.Answer{profile.ControlExec: profile.Deny, profile.ControlFile: profile.Audit, profile.ControlNetwork: profile.Deny, profile.ControlPrivilege: profile.Deny, profile.ControlResource: profile.Deny},
		Exec:    profile.ExecRules{Paths: []profile.Pattern{"/bin/sh", "/entry.sh", "/usr/lib/postgresql/*/bin/psql"}, Written: []profile.Pattern{"/data/tool", "/vol/x.sh"}, Memfd: true, CodeHeap: true},
		File:    profile.FileRules{Writes: []profile.Pattern{"/data", "/data/**", "/run/x.pid"}, Reads: []profile.Pattern{"/etc/shadow"}},
		Network: profile.NetworkRules{
			Listens: []profile.PortRule{port("tcp", 80)},
			Destinations: []profile.Destination{
				to(port("tcp", 9), "0.0.0.0/32"), to(port("tcp", 53), "10.0.0.2/32"), to(port("udp", 53), "10.0.0.2/32"), to(port("tcp", 22), "10.0.0.9/32"), to(port("tcp", 9), "10.0.3.3/32"),
				to(port("tcp", 5432), "10.0.3.4/32"), to(port("tcp", 9), "127.0.0.0/8"),
				to(port("tcp", 53), "127.0.0.11/32"), to(port("udp", 53), "127.0.0.11/32"), to(port("tcp", 53), "169.254.169.253/32"), to(port("udp", 53), "169.254.169.253/32"),
				to(port("tcp", 9), "::/128"), to(port("tcp", 9), "::1/128"), to(port("tcp", 53), "fd00:ec2::253/128"), to(port("udp", 53), "fd00:ec2::253/128"),
			},
			Names: []profile.NameRule{{PortRule: port("tcp", 443), Name: "*.example.com"}}, Resolvers: append([]netip.Addr{netip.MustParseAddr("10.0.0.2")}, profile.Resolvers()...), Raw: true,
		},
		Privilege: profile.PrivilegeRules{Capabilities: 1 << 10, Kinds: []event.Kind{event.KindExecProtect, event.KindClone}},
		Limits:    profile.Limits{Processes: 9},
	}
	if diff := cmp.Diff(got, want, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
		t.Errorf("rules (-got +want):\n%s", diff)
	}
	if diff := cmp.Diff(notes, []string{"No workload of prod/shop/gone is known: connections to it would lie outside until one runs."}); diff != "" {
		t.Errorf("notes (-got +want):\n%s", diff)
	}
}

// An interpreter that is given a folder on a volume runs a file in it, which hosts hold
// to the same.
func TestFoldersThatInterpretersRun(t *testing.T) {
	for _, tc := range []struct {
		program, loose profile.Pattern
		want           []profile.Pattern
	}{
		{"/usr/bin/python3.11", "/vol/app", []profile.Pattern{"/vol/app", "/vol/app/__main__.*", "/vol/app/__pycache__/__main__.*"}},
		{"/usr/bin/python3.11", "/vol/app.py", []profile.Pattern{"/vol/app.py"}},
		{"/usr/local/bin/node", "/vol/app", []profile.Pattern{"/vol/app", "/vol/app.js", "/vol/app.json", "/vol/app.node", "/vol/app/index.*", "/vol/app/package.json"}},
		{"/usr/local/bin/node", "/app/app", []profile.Pattern{"/app/app", "/app/app.js", "/app/app.json", "/app/app.node", "/app/app/index.*", "/app/app/package.json", "/app/package.json"}},
		{"/usr/local/bin/node", "/vol/app.js", []profile.Pattern{"/vol/app.js"}},
		{"/bin/sh", "/vol/app", []profile.Pattern{"/vol/app"}},
	} {
		p := &profile.Profile{Group: "prod/shop/app", Executables: []profile.Executable{{
			Path: tc.program, Origin: event.OriginImage, Scripts: []profile.Pattern{tc.loose}, Loose: []profile.Pattern{tc.loose},
		}}}
		r, _, err := compile.Compile(p, compile.Options{Mode: profile.Protect})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.Exec.Written, tc.want); diff != "" {
			t.Errorf("%s of %s (-got +want):\n%s", tc.loose, tc.program, diff)
		}
	}
}

func TestAnswers(t *testing.T) {
	for _, tc := range []struct {
		mode     profile.Mode
		switched profile.Answer
		want     profile.Answer
	}{
		{profile.Discover, "", profile.Off}, {profile.Discover, profile.Deny, profile.Off},
		{profile.Monitor, "", profile.Audit}, {profile.Monitor, profile.Deny, profile.Audit}, {profile.Monitor, profile.Off, profile.Off},
		{profile.Protect, "", profile.Deny}, {profile.Protect, profile.Audit, profile.Audit}, {profile.Protect, profile.Off, profile.Off}, {profile.Protect, "nonsense", profile.Deny},
	} {
		if got := compile.Answer(tc.mode, tc.switched); got != tc.want {
			t.Errorf("%s switched to %q: %s, want %s", tc.mode, tc.switched, got, tc.want)
		}
	}
}

// TestMoreThanAHostHolds: half a list would block what is normal, so the control is
// not held, and that is said.
func TestMoreThanAHostHolds(t *testing.T) {
	p := &profile.Profile{Group: "g"}
	for i := range profile.MaxPatterns + 1 {
		p.Writes = append(p.Writes, profile.File{Path: profile.Pattern(fmt.Sprintf("/etc/f%d", i))})
		p.Peers = append(p.Peers, profile.Peer{Protocol: "tcp", Network: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)})
	}
	r, notes, err := compile.Compile(p, compile.Options{Mode: profile.Protect})
	if err != nil {
		t.Fatal(err)
	}
	if r.Answers[profile.ControlFile] != profile.Off || r.Answers[profile.ControlNetwork] != profile.Off || r.Answers[profile.ControlExec] != profile.Deny || len(notes) != 2 {
		t.Errorf("answers %v, notes %q", r.Answers, notes)
	}
}

func TestRulesOfNoGroup(t *testing.T) {
	if _, _, err := compile.Compile(&profile.Profile{}, compile.Options{}); err == nil {
		t.Error("rules of no group are made")
	}
}
