package bpf_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/castellan-security/castellan/internal/adapter/bpf"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/profile"
)

// BenchmarkPutInForce puts the rules of many groups in force, as an agent does at its
// start: what a group takes is how long a host with a thousand of them waits.
func BenchmarkPutInForce(b *testing.B) {
	const many = 200
	for name, kind := range map[string]struct {
		open    func(string, *slog.Logger) (*bpf.Guard, error)
		control profile.Control
	}{
		"exec":      {bpf.OpenExecGuard, profile.ControlExec},
		"privilege": {bpf.OpenPrivilegeGuard, profile.ControlPrivilege},
		"network":   {bpf.OpenNetGuard, profile.ControlNetwork},
	} {
		rules := make([]profile.Rules, many)
		for i := range rules {
			r := execRules(profile.Off, profile.ExecRules{})
			r.Group, r.Answers[kind.control] = asset.Group(fmt.Sprintf("shop/service-%04d/app", i)), profile.Deny
			for j := range 40 {
				r.Exec.Paths = append(r.Exec.Paths, profile.Pattern(fmt.Sprintf("/usr/lib/service/bin/tool-%02d", j)))
			}
			for j := range 20 {
				at := netip.AddrFrom4([4]byte{10, byte(i), byte(j), 1})
				r.Network.Destinations = append(r.Network.Destinations, profile.Destination{Network: netip.PrefixFrom(at, 32), PortRule: profile.PortRule{Protocol: "tcp", Ports: profile.Ports{First: 443, Last: 443}}})
			}
			rules[i] = r
		}
		for how, put := range map[string]func(*netGuard) []error{
			"one by one": func(g *netGuard) (errs []error) {
				for _, r := range rules {
					errs = append(errs, g.Set(r))
				}
				return errs
			},
			"at once": func(g *netGuard) []error { return g.SetAll(rules) },
		} {
			b.Run(name+"/"+how, func(b *testing.B) {
				g := guardOf(b, pins(b), kind.open)
				check(b, errors.Join(g.SetAll(rules)...)) // loads; from now on rules are replaced
				b.ResetTimer()
				for b.Loop() {
					check(b, errors.Join(put(g)...))
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*many), "µs/group")
			})
		}
	}
}
