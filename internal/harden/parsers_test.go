package harden_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/harden"
	"github.com/castellan-security/castellan/internal/need"
	"github.com/castellan-security/castellan/internal/profile"
)

// compiled is one output of a profile, in a file of its own.
func compiled(t *testing.T, p profile.Profile, o harden.Output) (file string) {
	t.Helper()
	r, err := harden.Compile(&p, harden.Options{Outputs: []harden.Output{o}})
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), r.Files[0].Name)
	if err := os.WriteFile(file, []byte(r.Files[0].Content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// AppArmor's own parser takes every profile, whatever is in its paths, and finds
// one profile in it: nothing ends a rule, a line or the profile. That it means the
// same is for the kernel to say: test/vm.
func TestAppArmorTakesEveryProfile(t *testing.T) {
	parser := need.Program(t, "apparmor_parser", "apt-get install apparmor")
	profiles := []profile.Profile{nginx(t)}
	for seed := range uint64(25) {
		profiles = append(profiles, maker{rand.New(rand.NewPCG(seed, 9))}.profile())
	}
	for i, p := range profiles {
		file := compiled(t, p, harden.AppArmor)
		var said bytes.Buffer
		cmd := exec.CommandContext(t.Context(), parser, "--names", file)
		cmd.Stderr = &said
		names, err := cmd.Output()
		if got := strings.TrimSpace(string(names)); err != nil || got != "castellan-shop.web.nginx" {
			t.Errorf("profile %d: the parser finds the profiles %q, %v: %s", i, got, err, &said)
		}
		cmd = exec.CommandContext(t.Context(), parser, "--skip-kernel-load", "--skip-cache", "--kernel-features", "/etc/apparmor.d/abi/3.0", "--stdout", file)
		said.Reset()
		cmd.Stderr = &said
		if binary, err := cmd.Output(); err != nil || len(binary) == 0 {
			text, _ := os.ReadFile(file)
			t.Errorf("profile %d: %v: %s\n%s", i, err, &said, text)
		}
	}
}

// SELinux's own compiler takes the module, with a policy that has what it names.
// By neverallow it says what the module permits, and what it does not.
func TestSELinuxTakesTheModule(t *testing.T) {
	compiler := need.Program(t, "secilc")
	p := nginx(t)
	module := compiled(t, p, harden.SELinux)
	for _, tc := range []struct {
		rule    string // of the group's type
		permits bool
	}{
		{"self (capability (net_bind_service))", true}, {"self (capability (sys_admin))", false}, {"self (capability (sys_module))", false},
		{"self (capability2 (mac_admin))", false},
		{"http_port_t (tcp_socket (name_bind))", true}, {"postgresql_port_t (tcp_socket (name_bind))", false}, {"ssh_port_t (tcp_socket (name_bind))", false},
		{"http_cache_port_t (tcp_socket (name_connect))", true}, {"dns_port_t (tcp_socket (name_connect))", true},
		{"redis_port_t (tcp_socket (name_connect))", false}, {"unreserved_port_t (tcp_socket (name_connect))", false},
		{"self (udp_socket (create))", true}, {"self (rawip_socket (create))", false}, {"self (packet_socket (create))", false},
		{"self (process (ptrace))", false}, {"container_file_t (file (read))", true},
	} {
		never := filepath.Join(t.TempDir(), "never.cil")
		if err := os.WriteFile(never, fmt.Appendf(nil, "(neverallow castellan_shop_web_nginx.process %s)\n", tc.rule), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), compiler, "-o", os.DevNull, "-f", os.DevNull, filepath.Join("testdata", "base.cil"), module, never)
		said, err := cmd.CombinedOutput()
		if err != nil && !strings.Contains(string(said), "neverallow") {
			t.Fatalf("%s: %v: %s", tc.rule, err, said)
		}
		if permits := err != nil; permits != tc.permits {
			t.Errorf("the module permits %s: %v, want %v", tc.rule, permits, tc.permits)
		}
	}
}

// Whatever a group is called, and whatever it does, the module is one that the
// compiler takes.
func TestSELinuxTakesEveryModule(t *testing.T) {
	compiler := need.Program(t, "secilc")
	for seed := range uint64(25) {
		m := maker{rand.New(rand.NewPCG(seed, 10))}
		p := m.profile()
		if seed%2 == 0 {
			p.Group = "a/b-c/" + p.Group[:1]
		} else {
			p.Group += "/" + asset.Group(m.name()+")\n(block x)")
		}
		file := compiled(t, p, harden.SELinux)
		if said, err := exec.CommandContext(t.Context(), compiler, "-o", os.DevNull, "-f", os.DevNull, filepath.Join("testdata", "base.cil"), file).CombinedOutput(); err != nil {
			text, _ := os.ReadFile(file)
			t.Errorf("seed %d: %v: %s\n%s", seed, err, said, text)
		}
	}
}
