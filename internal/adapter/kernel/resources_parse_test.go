package kernel

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCgroupMounts(t *testing.T) {
	file := "31 23 0:28 / /sys/fs/cgroup rw shared:1 - tmpfs tmpfs rw\n" +
		"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:2 master:3 - cgroup cgroup rw,cpu,cpuacct\n" +
		`33 31 0:30 /.. /run/a\040b rw - cgroup2 cgroup2 rw` + "\n" +
		"34 31 0:31 /\n"
	want := []cgroupMount{
		{controllers: []string{"rw", "cpu", "cpuacct"}, root: "/", point: "/sys/fs/cgroup/cpu,cpuacct"},
		{unified: true, root: "/..", point: "/run/a b"},
	}
	if d := cmp.Diff(parseCgroupMounts([]byte(file)), want, cmp.AllowUnexported(cgroupMount{})); d != "" {
		t.Errorf("mounts (-got +want):\n%s", d)
	}
}

func TestUnder(t *testing.T) {
	tests := []struct {
		root, group, want string
		ok                bool
	}{
		{"/", "/docker/a", "docker/a", true},
		{"/docker", "/docker/a", "a", true},
		{"/docker/a", "/docker/a", "", true},
		{"/docker", "/dockers/a", "", false},
		{"/../..", "/../../docker/a", "docker/a", true},
		{"/..", "/../../docker/a", "", false},
		{"/", "/../a", "", false},
	}
	for _, tt := range tests {
		got, ok := under(tt.root, tt.group)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("under(%q, %q) = %q, %v, want %q, %v", tt.root, tt.group, got, ok, tt.want, tt.ok)
		}
	}
}

func TestQuota(t *testing.T) {
	tests := []struct {
		line string
		want uint64
		ok   bool
	}{
		{"max 100000", 0, true},
		{"-1 100000", 0, true},
		{"50000 100000", 500, true},
		{"250000 100000", 2500, true},
		{"50000 0", 0, false},
		{"50000", 0, false},
		{"18446744073709551615 1", 0, false},
		{"", 0, false},
	}
	for _, tt := range tests {
		if got, ok := parseQuota(tt.line); got != tt.want || ok != tt.ok {
			t.Errorf("parseQuota(%q) = %d, %v, want %d, %v", tt.line, got, ok, tt.want, tt.ok)
		}
	}
}

func FuzzCgroupMounts(f *testing.F) {
	f.Add([]byte("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"))
	f.Add([]byte(`33 31 0:30 /.. /run/a\0 rw - cgroup2 cgroup2 rw`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range parseCgroupMounts(b) {
			if m.unified == (m.controllers != nil) {
				t.Errorf("%+v is of both versions or of none", m)
			}
		}
	})
}

// Whatever stands there, only the container's own cgroup is found, and nothing
// above the mount.
func FuzzCgroupsOf(f *testing.F) {
	id := strings.Repeat("0123456789abcdef", 4)
	f.Add([]byte("4:memory:/docker/"+id+"/x\n0::/../"+id+"\n"), "/")
	f.Add([]byte("4:cpu,cpuacct:/"+id+"\n0::/system.slice/docker-"+id+".scope\n"), "/..")
	f.Fuzz(func(t *testing.T, b []byte, root string) {
		mounts := []cgroupMount{
			{controllers: []string{"rw", "memory"}, root: root, point: "/mnt/memory"},
			{unified: true, root: root, point: "/mnt/unified"},
		}
		for controller, dir := range New(Options{}).cgroupsOf(b, mounts, id) {
			inside := strings.HasPrefix(dir, "/mnt/memory") || strings.HasPrefix(dir, "/mnt/unified")
			if !inside || strings.Contains(dir+"/", "/../") {
				t.Errorf("%q is in %q", controller, dir)
			}
		}
	})
}

func FuzzCounters(f *testing.F) {
	f.Add([]byte("259:0 rbytes=4096 wbytes=8192 rios=1\n259:0 Read 1\n"))
	f.Add([]byte("  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\nlo:1\n"))
	f.Add([]byte("oom_kill 2\nusage_usec 18446744073709551615\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		diskBytes(b)
		interfaceBytes(b)
		if d := durationOf(b, "usage_usec", 1000); d < 0 {
			t.Errorf("%s was used", d)
		}
		if _, ok := lookUp(b, "oom_kill"); ok && !strings.Contains(string(b), "oom_kill") {
			t.Error("found what is not there")
		}
		if n, ok := parseQuota(string(b)); n != 0 && !ok {
			t.Errorf("%d thousandths of a CPU from %q", n, b)
		}
	})
}
