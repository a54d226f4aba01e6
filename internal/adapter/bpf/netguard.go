package bpf

import (
	"log/slog"

	"github.com/castellan-security/castellan/internal/profile"
)

//go:generate go tool bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -type net_deed -type net_outside -type net_ruleset -type net_group -type net_range -type net_destination -type net_listen -type net_named -type net_resolver -type net_setting -type net_knowing -type net_known_key netguard netguard.bpf.c -- -O2 -Wall -Werror -mcpu=v2

// networkRung is the rung of profile.ControlNetwork, in the words of
// internal/adapter/kernel.
const networkRung = "cgroup BPF (connect, sendmsg, bind)"

// OpenNetGuard returns what holds containers to whom they may speak with, by
// programs at the root of the cgroups. dir is where they are pinned; it must be on a
// BPF file system, such as below DefaultPins, which is mounted if nothing is. What
// another version of this program pinned there stays in force beside ours until
// Settle. The error says why this kernel, or these rights, don't allow it.
//
// TCP and UDP are held when a socket connects, sends to an address or is bound to a
// port, raw sockets and those of other protocols when they are made. A TCP socket that listens without having
// been bound, ports above 32767 that a UDP socket is bound to, answers of the DNS
// over TCP and connections that were there before are not held; sensors tell of
// them. What is alike is told once in ten seconds, with how often it was.
func OpenNetGuard(dir string, log *slog.Logger) (*Guard, error) {
	return openNetGuard(dir, generationOf(_NetguardBytes, netGuardRing), log)
}

func openNetGuard(dir, generation string, log *slog.Logger) (*Guard, error) {
	g := &Guard{
		what: "the network", log: log, dir: dir, unloaded: netControls, wants: wantsNetwork,
		open: func() (programs, error) {
			p, err := openNetPrograms(dir, generation, log)
			if err != nil {
				return nil, err
			}
			return p, nil
		},
	}
	return g.begin(networkPins(dir))
}

// wantsNetwork reports whether rules have something that is held here.
func wantsNetwork(r *profile.Rules) bool {
	limits := r.Answers[profile.ControlResource] != profile.Off && r.Limits.NewConnections > 0
	return r.Answers[profile.ControlNetwork] != profile.Off || limits
}

func netControls(answers map[profile.Control]profile.Answer) []profile.HeldControl {
	return []profile.HeldControl{{Control: profile.ControlNetwork, Answer: answers[profile.ControlNetwork], Rung: networkRung}}
}
